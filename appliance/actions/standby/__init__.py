"""Two boxes of one site: introducing them to each other, keeping them current, and what crosses between them."""
