"""Scores of classification, segmentation and retrieval.

Sources:

- Parts: Yi et al. 2016, "A scalable active framework for region annotation in 3D shape
  collections", section on evaluation: intersection over union, averaged over the parts of a shape.
- Retrieval: Savva et al. 2016, "SHREC'16 track: Large-scale 3D shape retrieval from ShapeNet
  Core55", section on evaluation.
"""

from collections.abc import Sequence

import numpy as np

from shared.errors import DataError

LONGEST_LIST = 1_000
"""Most results per query that SHREC16 accepts."""


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count the answers, int64 `(classes, classes)`: truth in rows, predictions in columns.

    Raises:
        DataError: The arrays differ in length, or a class is outside 0..classes - 1.
    """
    from sklearn.metrics import confusion_matrix

    truth, predicted = _labels(truth, predicted, classes)
    if not len(truth):
        return np.zeros((classes, classes), np.int64)
    return confusion_matrix(truth, predicted, labels=np.arange(classes))


def mistakes(table: np.ndarray, names: Sequence[str], most: int = 10) -> list[str]:
    """Say which classes were taken for which, most often first; the table as of `confusion`."""
    wrong = table * ~np.eye(len(table), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, table.shape), strict=True)
    return [f"{names[i]} as {names[j]}: {wrong[i, j]}" for i, j in pairs if wrong[i, j]]


def part_ious(
    truth: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the intersection over union of each part of one shape.

    Args:
        truth: Part of each point or face `(n,)`; those of -1 are left out.
        predicted: Predicted part `(n,)`.
        classes: Number of parts of this kind of shape.
        weights: Of points or faces `(n,)`, such as areas.

    Returns:
        `(classes,)`, 0..1; 1 for a part that neither the shape nor the prediction has, as is
        usual on the part annotations of ShapeNet.

    Raises:
        DataError: The arrays differ in length, a label is out of range, or nothing is labelled.
    """
    from sklearn.metrics import jaccard_score

    truth, predicted = np.asarray(truth), np.asarray(predicted)
    _same_length(truth, predicted)
    labelled = truth != -1
    truth, predicted = _labels(truth[labelled], predicted[labelled], classes)
    if not len(truth):
        raise DataError("The shape has no labelled points or faces; its parts cannot be scored.")
    if weights is not None:
        weights = np.asarray(weights)[labelled]
    return jaccard_score(
        truth,
        predicted,
        labels=np.arange(classes),
        average=None,
        sample_weight=weights,
        zero_division=1,
    )


def mean_iou(
    truth: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray | None = None
) -> float:
    """Return the mean of `part_ious` over the parts of one shape."""
    return float(part_ious(truth, predicted, classes, weights).mean())


def ranked_lists(distances: np.ndarray, longest: int = LONGEST_LIST) -> list[np.ndarray]:
    """Rank a collection for each query, nearest first, equally near ones in their order.

    Args:
        distances: `(queries, collection)`; infinite ones are not returned, so that a list can end
            before the collection does.
        longest: Most entries of a list.

    Returns:
        Rows of the collection for each query.
    """
    distances = np.asarray(distances)
    orders = np.argsort(distances, axis=1, kind="stable")[:, :longest]
    return [order[np.isfinite(row[order])] for row, order in zip(distances, orders, strict=True)]


def retrieval_scores(
    lists: Sequence[np.ndarray],
    query_classes: np.ndarray,
    collection_classes: np.ndarray,
    *,
    leave_one_out: bool = False,
) -> dict[str, dict[str, float]]:
    """Score ranked lists as SHREC16 does.

    N is the length of the list that was returned for a query. Per query:

    - P@N and R@N: share of the list that is of the query's class, and share of that class that is
      in the list. F1@N: their harmonic mean.
    - AP: mean of the precision at the ranks of the right entries *in the list*; entries missed do
      not count, which is how a mean AP can exceed the recall, as it does for many methods of the
      track.
    - NDCG@N: gains discounted by `log2(rank + 1)`, relative to the best list of N entries. The gain
      is 1 for the same class; SHREC16 also grades subclasses.

    In SHREC16 the queries are the collection, and a query finds itself first.

    Args:
        lists: Per query, rows of the collection, the nearest first.
        query_classes: `(queries,)`.
        collection_classes: `(collection,)`.
        leave_one_out: The queries are the collection, and no list holds its own query, which then
            is not missed either. Stricter than SHREC16 where classes are small.

    Returns:
        `{"micro": scores, "macro": scores}` with the keys `P@N`, `R@N`, `F1@N`, `mAP`, `NDCG@N`:
        means over all queries, and means over classes of the means over their queries.

    Raises:
        DataError: The numbers do not fit together, a list names an entry twice or one that does
            not exist, or the collection holds nothing that a query could find.
    """
    query_classes, collection_classes = np.asarray(query_classes), np.asarray(collection_classes)
    if not len(lists) or len(lists) != len(query_classes):
        raise DataError(f"There are {len(lists)} ranked lists for {len(query_classes)} queries.")
    names = ("P@N", "R@N", "F1@N", "mAP", "NDCG@N")
    rows = []
    for query, (ranked, wanted) in enumerate(zip(lists, query_classes, strict=True)):
        ranked = np.asarray(ranked, np.int64)
        _check_list(query, ranked, len(collection_classes), leave_one_out)
        relevant = int((collection_classes == wanted).sum()) - leave_one_out
        if relevant < 1:
            raise DataError(
                f"Query {query} is of the class {wanted}, of which the collection holds nothing "
                "to find; leave such queries out."
            )
        rows.append(_query_scores(collection_classes[ranked] == wanted, relevant))
    scores = np.array(rows)
    classes = [scores[query_classes == name].mean(axis=0) for name in np.unique(query_classes)]
    means = {"micro": scores.mean(axis=0), "macro": np.mean(classes, axis=0)}
    return {kind: dict(zip(names, mean.tolist(), strict=True)) for kind, mean in means.items()}


def _query_scores(hits, relevant):
    """Return P, R, F1, AP and NDCG of one list."""
    from sklearn.metrics import average_precision_score

    if not hits.any():
        return (0.0,) * 5
    precision, recall = hits.mean(), hits.sum() / relevant
    average_precision = average_precision_score(hits, -np.arange(len(hits)))
    discounts = 1 / np.log2(np.arange(len(hits)) + 2)
    ndcg = discounts[hits].sum() / discounts[:relevant].sum()
    f1 = 2 * precision * recall / (precision + recall)
    return precision, recall, f1, average_precision, ndcg


def _check_list(query, ranked, size, leave_one_out):
    if len(ranked) and not (ranked.min() >= 0 and ranked.max() < size):
        raise DataError(f"The list of query {query} names an entry outside 0..{size - 1}.")
    if len(np.unique(ranked)) < len(ranked):
        raise DataError(f"The list of query {query} names an entry more than once.")
    if leave_one_out and query in ranked:
        raise DataError(f"The list of query {query} holds the query itself; take it out.")


def _labels(truth, predicted, classes):
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    _same_length(truth, predicted)
    for name, labels in (("true", truth), ("predicted", predicted)):
        if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
            raise DataError(
                f"The {name} classes run from {labels.min()} to {labels.max()}; "
                f"they must lie in 0..{classes - 1}."
            )
    return truth, predicted


def _same_length(truth, predicted):
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise DataError(
            f"True and predicted classes have the shapes {truth.shape} and {predicted.shape}; "
            "they must be lists of the same length."
        )
