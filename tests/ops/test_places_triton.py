from collections.abc import Callable


def test_kernel(run_on_a_gpu_or_interpreted: Callable[[str], None]) -> None:
    """The GPU kernel of `places_triton`."""
    run_on_a_gpu_or_interpreted("place_kernel_cases.py")
