"""The plain, frozen data that flows between the packages."""
