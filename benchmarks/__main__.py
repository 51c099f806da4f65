"""All benchmarks, one after another."""

from benchmarks import gpu, harness, metering, rewards, seconds

for module in (harness, metering, rewards, seconds, gpu):
    print(f"== {module.__name__} ==")
    module.main()
