"""A quick start: what stands for slow modules of the standard library, and code that is kept between starts."""
