"""What flows between the rooms: plain, frozen data."""
