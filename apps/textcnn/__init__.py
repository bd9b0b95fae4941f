"""Sentence classification with convolutional networks (text CNN).

Papers: Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014; Zhang &
Wallace, "A Sensitivity Analysis of (and Practitioners' Guide to) Convolutional Neural Networks for
Sentence Classification", 2015. Detectors of n-grams over word vectors, the largest answer of each
over the text, and a linear layer: trained in seconds, and every decision can be taken apart.

Example:
    >>> from apps.textcnn import TextClassifier
    >>> reviews = TextClassifier.from_weights("mr-en")
    >>> reviews(["a moving and often funny film"])[0].label
    'positive'
    >>> reviews.explain("a moving and often funny film").words[1]
    ('moving', 2.1)
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "classifier": ["Prediction", "SentenceClassifier", "TextClassifier"],
        "data": ["Rows", "read"],
        "train": ["Recipe"],
        "vectors": ["Vectors"],
    },
)
