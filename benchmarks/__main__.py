"""All benchmarks, one after another."""

from benchmarks import metering, rewards, seconds

for module in (metering, rewards, seconds):
    print(f"== {module.__name__} ==")
    module.main()
