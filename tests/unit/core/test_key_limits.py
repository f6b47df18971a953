from app.core.key_limits import Bucket


def test_a_clock_that_is_set_back_does_not_stop_the_refill() -> None:
    """An hour ahead and home again: what is there comes back by the minute, not an hour later."""
    now_s = 1_000_000.0
    bucket = Bucket(60, 0, now_s + 3600)
    bucket.take(60)
    bucket.settle(60, 60)
    bucket.refill(now_s)
    assert bucket.level == 0
    bucket.refill(now_s + 30)
    assert bucket.level == 30
