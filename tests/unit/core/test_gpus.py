"""Which GPU is which, and what `profile: auto` means on it."""

import pytest

from app.core.gpus import CARDS, GIB, Card, Gpu, choose_profile, find_card

NONE_AVAILABLE: frozenset[str] = frozenset()


def gpu(name: str, gib: float, capability: tuple[int, int]) -> Gpu:
    return Gpu(name, int(gib * GIB), int(gib * GIB), capability)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.key)
def test_every_known_card_is_found_by_its_own_name_and_memory(card: Card) -> None:
    names = [f"NVIDIA {mark}" for mark in card.marks]
    found = [find_card(gpu(name, card.usable_mib / 1024, card.capability)) for name in names]
    assert found == [card] * len(names)


@pytest.mark.parametrize(
    ("name", "gib", "capability", "key"),
    [
        ("NVIDIA A100-SXM4-80GB", 79.3, (8, 0), "a100-80"),
        ("NVIDIA A100-PCIE-40GB", 39.4, (8, 0), "a100-40"),
        ("NVIDIA L40S", 44.5, (8, 9), "l40s"),
        ("NVIDIA L4", 22.0, (8, 9), "l4"),
        ("NVIDIA H100 80GB HBM3", 79.1, (9, 0), "h100"),
        ("Tesla T4", 14.6, (7, 5), "t4"),
    ],
)
def test_names_as_the_driver_gives_them_are_recognised(
    name: str, gib: float, capability: tuple[int, int], key: str
) -> None:
    card = find_card(gpu(name, gib, capability))
    assert card is not None
    assert card.key == key


def test_a_card_with_the_same_name_and_other_memory_is_not_taken_for_it() -> None:
    assert find_card(gpu("NVIDIA GeForce RTX 3080", 11.8, (8, 6))) is None
    assert find_card(gpu("NVIDIA H100 NVL", 93.1, (9, 0))) is None


@pytest.mark.parametrize(
    ("capability", "int8", "fp8", "bf16"),
    [
        ((7, 0), False, False, False),
        ((7, 5), True, False, False),
        ((8, 6), True, False, True),
        ((8, 9), True, True, True),
        ((9, 0), True, True, True),
        ((10, 0), False, True, True),
        ((12, 0), False, True, True),
    ],
)
def test_what_a_generation_computes(
    capability: tuple[int, int], int8: bool, fp8: bool, bf16: bool
) -> None:
    found = gpu("some GPU", 24, capability)
    assert (found.has_int8, found.has_fp8, found.has_bf16) == (int8, fp8, bf16)


def test_without_a_gpu_auto_is_the_bundled_model_and_says_so() -> None:
    choice = choose_profile((), NONE_AVAILABLE)
    assert choice.profile == "bundled"
    assert choice.reason == "There is no NVIDIA GPU in this machine."


def test_without_an_int8_path_auto_is_the_bundled_model_at_16_bit() -> None:
    choice = choose_profile((gpu("NVIDIA B200", 178, (10, 0)),), NONE_AVAILABLE)
    assert choice.profile == "bundled-16bit"
    assert choice.reason is not None
    assert "10.0" in choice.reason


def test_on_a_gpu_too_small_auto_is_the_bundled_model_with_the_numbers() -> None:
    choice = choose_profile((gpu("NVIDIA GeForce RTX 3070", 7.7, (8, 6)),), NONE_AVAILABLE)
    assert choice.profile == "bundled"
    assert choice.reason is not None
    assert "7.7 GiB" in choice.reason


def test_a_card_with_a_profile_of_its_own_gets_it_and_any_other_the_general_one() -> None:
    a10 = (gpu("NVIDIA A10G", 22.0, (8, 6)),)
    own = "llama-3.1-8b-instruct-w8a8-a10"
    assert choose_profile(a10, {own}).profile == own
    assert choose_profile(a10, NONE_AVAILABLE).profile == "llama-3.1-8b-instruct-w8a8"
