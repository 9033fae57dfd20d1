"""Keys by name: secrets stay behind the provider, results carry which key made them."""
