"""Sentence classification with convolutional networks over word vectors."""
