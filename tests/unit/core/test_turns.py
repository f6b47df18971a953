"""Turns by hand: which of them has come is all that is seen."""

from app.core.turns import Turn, Turns


def those_come(turns: list[Turn]) -> list[Turn]:
    return [each for each in turns if each.has_come.is_set()]


def serve_all(turns: Turns, joined: list[Turn]) -> list[str | None]:
    """The tenants in the order in which their turns come, each leaving as soon as it has."""
    order = []
    while joined:
        (turn,) = those_come(joined)
        order.append(turn.lane.tenant)
        joined.remove(turn)
        turns.leave(turn)
    return order


def test_it_goes_round_whatever_each_tenant_has_waiting() -> None:
    turns = Turns(1)
    joined = [turns.join(tenant) for tenant in ("a", "a", "a", "a", None, None, "b")]
    assert serve_all(turns, joined) == ["a", None, "b", "a", None, "a", "a"]


def test_a_tenants_own_come_in_the_order_in_which_they_joined() -> None:
    turns = Turns(1)
    joined = [turns.join("a") for _ in range(4)]
    for turn in joined:
        assert those_come(joined)[-1] is turn
        turns.leave(turn)


def test_who_has_fewer_running_is_next_though_served_later() -> None:
    turns = Turns(2)
    _, ending = turns.join("a"), turns.join("b")
    waiting = [turns.join("a"), turns.join("b")]
    turns.leave(ending)
    assert those_come(waiting) == [waiting[1]]


def test_who_is_new_waits_for_one_turn_though_all_places_are_others() -> None:
    turns = Turns(2)
    first, _ = turns.join("a"), turns.join("b")
    waiting = [turns.join(tenant) for tenant in ("a", "b", "c")]
    turns.leave(first)
    assert those_come(waiting) == [waiting[2]]


def test_who_comes_back_at_once_does_not_overtake_who_waits() -> None:
    turns = Turns(1)
    first, second, patient = turns.join("a"), turns.join("b"), turns.join("c")
    turns.leave(first)
    back = turns.join("a")
    turns.leave(second)
    assert those_come([back, patient]) == [patient]


def test_all_places_are_one_tenants_where_nobody_else_wants_them() -> None:
    turns = Turns(2)
    joined = [turns.join("a") for _ in range(3)]
    assert those_come(joined) == joined[:2]


def test_who_gives_up_is_passed_over_and_who_has_nothing_is_forgotten() -> None:
    turns = Turns(1)
    first, second, third = (turns.join("a") for _ in range(3))
    turns.leave(second)
    assert turns.num_in_hand("a") == 2
    turns.leave(first)
    assert those_come([second, third]) == [third]
    turns.leave(third)
    assert not turns.num_in_hand("a")
    assert not turns._lanes
    assert those_come([turns.join("b")])
