"""How fast a bundle is here, and how much memory it takes, beside what it is compared with."""
