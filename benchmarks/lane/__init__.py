"""The lane: long studies that run beside other work, at the lowest priority, outside the repository; see `make lane`."""
