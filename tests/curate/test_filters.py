import numpy as np
import pytest

from jaxml.curate import filters, lines
from jaxml.curate.filters import GopherQualityConfig

PROSE = (
    "The ferry left the harbour with forty people on board, and the wind was rising. "
    "Most of them had come to see the island where the old lighthouse stands. "
    "That morning the keeper had lit the lamp by hand, as keepers have done for years. "
    "Nobody thought to ask him why, and he did not offer to explain. "
    "By noon the clouds were low, yet the water stayed calm enough to row across."
)


def reason(function, text, *args):
    return function(text, *args).reason


BY_HAND = [
    # Gopher quality: 49 and 50 words; the others break one rule each.
    (filters.gopher_quality, PROSE, ""),
    (filters.gopher_quality, " ".join(PROSE.split()[:49]), "gopher_short_doc"),
    (filters.gopher_quality, " ".join(PROSE.split()[:50]), ""),
    (filters.gopher_quality, PROSE + " !?" * 8, ""),  # symbols are no words, 74/82 with letters
    (filters.gopher_quality, "", "gopher_short_doc"),
    (filters.gopher_quality, "an to " * 50, "gopher_below_avg_threshold"),
    (filters.gopher_quality, "extraordinary " * 50, "gopher_above_avg_threshold"),
    (filters.gopher_quality, PROSE + " #" * 9, "gopher_too_many_hashes"),
    (filters.gopher_quality, PROSE.replace(", ", "... ") + " ..." * 5, "gopher_too_many_ellipsis"),
    (
        filters.gopher_quality,
        "\n".join(f"- {s}" for s in PROSE.split(". ")),
        "gopher_too_many_bullets",
    ),
    (filters.gopher_quality, PROSE.replace(". ", "…\n"), "gopher_too_many_end_ellipsis"),
    (filters.gopher_quality, PROSE + " 1234" * 40, "gopher_below_alpha_threshold"),
    (filters.gopher_quality, "The " + "Word " * 60, "gopher_enough_stop_words"),
    (filters.gopher_quality, "the the " + "word " * 60, "gopher_enough_stop_words"),  # distinct
    # Gopher repetition.
    (filters.gopher_repetition, PROSE, ""),
    (filters.gopher_repetition, "a\n\na\n\nb", "dup_para_frac"),  # 1/3 of paragraphs
    (filters.gopher_repetition, "long one here\n\nx\n\ny\n\nlong one here", "dup_para_char_frac"),
    (filters.gopher_repetition, "q\nr\nq\n", "top_2_gram"),  # lines: 1 of 4 (the last is empty)
    (filters.gopher_repetition, "q\nr\nq", "dup_line_frac"),
    (filters.gopher_repetition, "abcdefg\nx\ny\nabcdefg", "dup_line_char_frac"),
    (filters.gopher_repetition, "ab cd ef gh ab cd", "top_2_gram"),  # 5 * 2 / 17 = .59
    (filters.gopher_repetition, "ab cd", "top_2_gram"),  # a single occurrence counts
    # C4.
    (lines.c4, PROSE, ""),
    (lines.c4, "Only one sentence is here.", "too_few_sentences"),
    (lines.c4, PROSE + "\nLorem ipsum dolor sit.", "lorem_ipsum"),
    (lines.c4, PROSE + "\nif (x) { do this. }.", "curly_bracket"),
    (lines.c4, PROSE + "\nif (x) { do this }", ""),  # the line goes before its bracket is seen
    (lines.c4, PROSE.replace(". ", "...\n"), "too_few_sentences"),
    # FineWeb.
    (filters.fineweb, PROSE, ""),
    (filters.fineweb, " \n\n ", "empty"),
    (filters.fineweb, "a line of words without its full stop at the end", "line_punct_ratio"),
    (filters.fineweb, "Short one.\nShort two.\nShort three.", "short_line_ratio"),
    (filters.fineweb, (PROSE + "\n") * 2, "char_dup_ratio"),
    (filters.fineweb, PROSE + "\n" * 30, "list_ratio"),  # 30/74
]


@pytest.mark.parametrize(("function", "text", "want"), BY_HAND)
def test_decisions_by_hand(function, text, want):
    got = function(text)
    assert (got.keep, got.reason) == (want == "", want)


def test_statistics_by_hand():
    got = filters.stats(["the cat... #1\n- and so on…\n- and so on…\n", ""])
    first = {name: column[0] for name, column in got.items()}
    assert first["num_words"] == 9  # each "-" is no word
    assert first["word_length"] == pytest.approx((3 + 6 + 2 + 3 + 2 + 3 + 3 + 2 + 3) / 9)
    assert first["hash_ratio"] == pytest.approx(1 / 11)
    assert first["ellipsis_ratio"] == pytest.approx(3 / 11)
    assert first["bullet_lines"] == pytest.approx(2 / 3)
    assert first["ellipsis_lines"] == pytest.approx(2 / 3)
    assert first["alphabetic_words"] == pytest.approx(8 / 11)
    assert first["stop_words"] == 2
    assert first["dup_lines"] == pytest.approx(1 / 4)
    assert first["dup_chars"] == pytest.approx(12 / 37)
    assert first["terminal_lines"] == 0
    assert first["newlines_per_word"] == pytest.approx(3 / 11)
    assert got["num_words"][1] == 0


def test_duplicate_grams_jump_and_drop_spaces():
    tokens = "a b c d e f a b c d e f"
    # the 5-gram at 6 is known: 5 characters of 23; then 1 word is left
    got = filters.repetition_stats(tokens)
    assert got["dup_5_gram_chars"] == pytest.approx(5 / 23)
    assert got["dup_6_gram_chars"] == pytest.approx(6 / 23)
    assert got["dup_7_gram_chars"] == 0
    assert got["top_2_gram_chars"] == pytest.approx(3 * 2 / 23)
    assert got["top_4_gram_chars"] == pytest.approx(7 * 2 / 23)


def test_columns_give_the_decisions_of_the_functions():
    texts = [text for _, text, _ in BY_HAND]
    columns = filters.stats(texts)
    for function, cfg in (
        (filters.gopher_quality, filters.GopherQualityConfig()),
        (filters.gopher_repetition, filters.GopherRepetitionConfig()),
        (filters.fineweb, filters.FineWebConfig()),
    ):
        want = [function(text).reason for text in texts]
        assert filters.first_broken(columns, cfg.rules()).tolist() == want
    lax = filters.first_broken(columns, GopherQualityConfig(min_words=0, min_stop_words=0).rules())
    assert (lax == "").sum() > (
        filters.first_broken(columns, GopherQualityConfig().rules()) == ""
    ).sum()


def test_c4_rewrites_and_drops_lines():
    text = PROSE.replace(". ", ".\n") + (
        "\nPlease enable Javascript to read this page.\nWe use cookies on this fine site.\n"
        "No stop here\nToo short.\nA fact[12] with sources[citation needed].\n"
        + "x" * 1001
        + " a b."
    )
    got = lines.c4(text)
    assert got.keep
    assert got.text.splitlines() == [
        *PROSE.replace(". ", ".\n").splitlines(),
        "A fact with sources.",
    ]
    loose = lines.c4(text, lines.C4Config(terminal_punctuation=False))
    assert "No stop here" in loose.text


def test_mc4_and_bad_words():
    good = "\n".join(["x" * 200] * 3)
    assert lines.mc4_paragraphs(good).keep
    assert not lines.mc4_paragraphs(good[:-1]).keep
    assert not lines.bad_words("This is a Badword!", ["badword"]).keep
    assert lines.bad_words("This is a badwordless line", ["badword"]).keep
    drawn = [lines.bad_words(f"badword {i}", ["badword"], 0.25).keep for i in range(400)]
    assert 0.15 < np.mean(drawn) < 0.35
    assert drawn == [lines.bad_words(f"badword {i}", ["badword"], 0.25).keep for i in range(400)]
    with pytest.raises(ValueError, match="keep_fraction must lie in"):
        lines.bad_words("x", ["y"], 2.0)


def test_wrapped_prose_is_unwrapped_and_lists_are_not():
    import textwrap

    wrapped = textwrap.fill(PROSE, 70)
    assert (
        filters.fineweb("\n\n".join(textwrap.fill(s, 25) for s in PROSE.split(". "))).keep is False
    )
    assert lines.unwrap(wrapped) == PROSE
    listing = "Things to buy:\n- bread and butter\n- milk"
    assert lines.unwrap(listing) == listing


def test_rules_need_their_columns():
    with pytest.raises(ValueError, match="stat must be one of"):
        filters.first_broken({"num_words": np.ones(2)}, filters.FineWebConfig().rules())
