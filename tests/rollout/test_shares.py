"""Who answers which page, without any server."""

from __future__ import annotations

from random import Random

from ocr_rl.rollout.sampler.shares import Shares


def given(shares: Shares[str], *ready: str, room: int = 2) -> list[tuple[str, int]]:
    return list(shares.hand_out(ready, room))


def test_pages_go_in_order_to_whoever_has_the_fewest_and_has_room() -> None:
    shares = Shares[str](5)
    assert given(shares, "a", "b") == [("a", 0), ("b", 1), ("a", 2), ("b", 3)]
    assert given(shares, "a", "b") == []
    shares.answered(2, "a")
    assert given(shares, "a", "b") == [("a", 4)]


def test_one_server_alone_gets_all_that_it_has_room_for() -> None:
    assert given(Shares[str](3), "a", room=3) == [("a", 0), ("a", 1), ("a", 2)]


def test_what_a_dead_server_was_writing_goes_first_to_the_others() -> None:
    shares = Shares[str](6)
    given(shares, "a", "b")
    shares.lose("b")
    assert given(shares, "a") == []
    shares.answered(0, "a")
    shares.answered(2, "a")
    assert given(shares, "a") == [("a", 1), ("a", 3)]


def test_one_that_is_done_takes_over_half_of_what_another_has_left_the_last_first() -> None:
    shares = Shares[str](8)
    assert given(shares, "a", "b", room=4) == [("ab"[i % 2], i) for i in range(8)]
    for place in (0, 2, 4, 6):
        shares.answered(place, "a")
    assert given(shares, "a", "b", room=4) == [("a", 7), ("a", 5)]
    shares.answered(7, "a")  # and not by b, which was writing it too
    shares.answered(5, "b")
    assert given(shares, "a", "b", room=4) == [("a", 3)]
    shares.lose("b")
    assert given(shares, "a", room=4) == [("a", 1)]
    shares.answered(1, "a")
    assert shares.left
    shares.answered(3, "a")
    assert not shares.left


def test_who_has_not_answered_anything_takes_nothing_over() -> None:
    shares = Shares[str](1)
    assert given(shares, "a", "b") == [("a", 0)]


def test_whatever_happens_each_page_is_answered_once() -> None:
    for seed in range(200):
        rng = Random(seed)
        n, servers = rng.randint(0, 12), ["a", "b", "c"]
        shares, room, ready = Shares[str](n), rng.randint(1, 5), set(servers)
        asked: list[tuple[str, int]] = []
        answers: list[int] = []
        while shares.left:
            asked += given(shares, *sorted(ready), room=room)
            assert all(asked.count(pair) == 1 for pair in asked)
            if rng.random() < 0.2:
                gone = rng.choice(servers)
                ready.discard(gone)
                shares.lose(gone)
                asked = [(server, place) for server, place in asked if server != gone]
            elif rng.random() < 0.3 or not asked:
                ready.add(rng.choice(servers))
            else:
                server, place = rng.choice(asked)
                shares.answered(place, server)
                answers.append(place)
                asked = [pair for pair in asked if pair[1] != place]
        assert sorted(answers) == list(range(n))
