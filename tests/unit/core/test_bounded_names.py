from app.core.bounded_names import OTHERS, BoundedNames


def test_so_many_names_are_labels_and_the_rest_share_one() -> None:
    names = BoundedNames(2)
    asked = ["a", "b", "c", "a", "d", "b"]
    assert [names.label(name) for name in asked] == ["a", "b", OTHERS, "a", OTHERS, "b"]
