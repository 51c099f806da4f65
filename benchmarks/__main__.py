"""All benchmarks, one after another."""

from benchmarks import harness, metering, rewards, seconds

for module in (harness, metering, rewards, seconds):
    print(f"== {module.__name__} ==")
    module.main()
