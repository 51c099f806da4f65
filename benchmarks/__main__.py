"""All benchmarks, one after another."""

from benchmarks import metering, seconds

for module in (metering, seconds):
    print(f"== {module.__name__} ==")
    module.main()
