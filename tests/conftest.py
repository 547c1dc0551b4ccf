"""What all tests share."""

from hypothesis import settings

# The gate gives the same answer every time: same examples, and no deadline that a busy machine could miss.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate")
