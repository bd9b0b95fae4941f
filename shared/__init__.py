"""What applications share: pictures, folders, video, weights, training, layers, pages."""
