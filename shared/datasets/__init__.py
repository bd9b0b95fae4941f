"""Readers of public data sets."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "digits": ["Digits", "load_digits", "read_idx"],
        "labelled": ["Labelled", "hold_out", "load_labelled"],
        "sentences": [
            "Sentences",
            "load_chnsenticorp",
            "load_mr",
            "load_sst",
            "load_subj",
            "load_thucnews",
            "load_trec",
        ],
    },
)
