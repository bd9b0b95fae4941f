"""What two or more applications need: pictures, folders, video, weights, training, layers, pages."""
