"""One folder, one application. Applications share code through `shared`, never with each other."""
