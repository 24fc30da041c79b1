import time
from uuid import UUID

from router.ids import new_group_id, uniform


def test_group_ids_are_version_7_and_sort_by_time() -> None:
    first = new_group_id()
    time.sleep(0.002)
    second = new_group_id()
    assert UUID(first).version == 7 and UUID(first).variant == "specified in RFC 4122"
    assert first < second
    assert abs(int(first.replace("-", "")[:12], 16) / 1000 - time.time()) < 5


def test_the_draw_of_a_group_is_uniform_and_its_own() -> None:
    ids = [new_group_id() for _ in range(4000)]
    draws = [uniform(group_id) for group_id in ids]
    assert all(0 <= draw < 1 for draw in draws)
    assert draws == [uniform(group_id) for group_id in ids]
    assert abs(sum(draws) / len(draws) - 0.5) < 0.03
    assert abs(sum(draw < 0.02 for draw in draws) - 80) < 45
