from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_tls.wire.pseudonyms import PAD_BYTES, Pseudonyms

ONE, TWO = bytes(range(32)), bytes(range(32, 64))


@given(st.text())
def test_a_text_reads_back_letter_for_letter(text: str) -> None:
    """Whatever is in a text, its pseudonym is one word of lower case letters and digits, and gives it back."""
    pseudonyms = Pseudonyms({1: ONE})
    pseudonym = pseudonyms.of(text, "")
    assert re.fullmatch(r"p1\.[a-z2-7]{39,}", pseudonym)
    assert pseudonyms.reveal(f"<{pseudonym}>") == (f"<{text}>", 0)


@given(st.text(min_size=1), st.from_regex(r"[A-Za-z0-9_-]{1,20}(\.[A-Za-z]{1,10}){0,3}", fullmatch=True), st.booleans())
def test_an_address_reads_back_with_its_domain(local: str, domain: str, keep_domain: bool) -> None:
    """The domain stays, or is a pseudonym that reads back in lower case; a store that folds case changes nothing."""
    pseudonyms = Pseudonyms({1: ONE})
    address = pseudonyms.address(local, domain, keep_domain=keep_domain)
    assert (address.rpartition("@")[2] == domain) == keep_domain
    assert pseudonyms.reveal(address) == (f"{local}@{domain if keep_domain else domain.lower()}", 0)
    assert pseudonyms.reveal(f"to {address.lower()}.") == (f"to {local}@{domain.lower()}.", 0)


def test_equal_texts_are_equal_under_one_key_and_under_no_other() -> None:
    """Deterministic: another process with the key makes the same; another key makes another."""
    assert Pseudonyms({1: ONE}).of("anna", "") == Pseudonyms({1: ONE}).of("anna", "")
    assert Pseudonyms({1: ONE}).of("anna", "") != Pseudonyms({1: TWO}).of("anna", "")
    assert Pseudonyms({1: ONE}).of("anna", "") != Pseudonyms({1: ONE}).of("Anna", "")


def test_the_first_part_of_an_address_says_nothing_about_other_domains() -> None:
    """`info` at two domains has nothing in common; the domain's case does not count."""
    pseudonyms = Pseudonyms({1: ONE})
    at = {domain: pseudonyms.address("info", domain, keep_domain=True).split("@")[0] for domain in ("a.example", "b.example", "A.Example")}
    assert at["a.example"] == at["A.Example"] != at["b.example"]


def test_the_length_of_a_text_is_seen_in_steps() -> None:
    """Texts of up to seven bytes cannot be told apart by length; the marker of the end takes the eighth."""
    pseudonyms = Pseudonyms({1: ONE})
    assert len({len(pseudonyms.of("x" * n, "")) for n in range(PAD_BYTES)}) == 1
    assert len(pseudonyms.of("x" * PAD_BYTES, "")) > len(pseudonyms.of("x" * (PAD_BYTES - 1), ""))


def test_the_highest_key_writes_and_all_read() -> None:
    """After a rotation old pseudonyms are still read; without the old key they are counted, and stay as they are."""
    old, both, new = Pseudonyms({1: ONE}), Pseudonyms({1: ONE, 2: TWO}), Pseudonyms({2: TWO})
    written = f"{old.of('anna', '')} {old.address('bob', 'b.example', keep_domain=False)} {both.of('anna', '')}"
    assert both.of("anna", "") == new.of("anna", "")
    assert both.reveal(written) == ("anna bob@b.example anna", 0)
    told, unread = new.reveal(written)
    assert unread == 2
    assert told == written.replace(new.of("anna", ""), "anna")


def test_what_only_looks_like_a_pseudonym_stays() -> None:
    """A changed letter, a cut, an address bound to another domain: none of them gives a text."""
    pseudonyms = Pseudonyms({1: ONE})
    good = pseudonyms.of("a text that is somewhat longer", "")
    changed = good[:-9] + ("a" if good[-9] != "a" else "b") + good[-8:]
    moved = pseudonyms.address("anna", "a.example", keep_domain=True).replace("a.example", "b.example")
    for text in (changed, good[:-4], moved, "p1.abc", "p9." + good[3:], "p1." + "a" * 39):
        assert pseudonyms.reveal(text)[0] == text


@pytest.mark.parametrize("text", ["", "x", "1234567", "12345678", "a text of many words" * 5])
def test_letters_directly_behind_a_pseudonym(text: str) -> None:
    """Where other words begin without a blank the pseudonym is still found, and they are left as they were."""
    pseudonyms = Pseudonyms({1: ONE})
    for behind in ("details: x", "abc", "p1.", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "7@b.example"):
        assert pseudonyms.reveal(pseudonyms.of(text, "") + behind) == (text + behind, 0)


def test_ids_are_made_anew_by_the_key() -> None:
    """The time in front stays, the rest is another: the same for the same id and key, unlike under another key."""
    record_id = "6923a0190011223344556677aa"
    made = Pseudonyms({1: ONE}).record_id(record_id)
    assert re.fullmatch(r"6923a019[0-9a-f]{18}", made)
    assert made == Pseudonyms({1: ONE}).record_id(record_id) != record_id
    assert made != Pseudonyms({1: TWO}).record_id(record_id)
    assert made != Pseudonyms({1: ONE}).record_id(record_id.replace("aa", "ab"))


def test_the_form_is_fixed() -> None:
    """What was written once has to be read for years: these were made when the form was decided on (AES-SIV, HKDF-SHA256)."""
    pseudonyms = Pseudonyms({7: ONE})
    assert pseudonyms.of("anna.schmidt", "") == "p7.pda6zazz42c7wzy3jgwzyikmc4dg2ioigjwfd73irbos2qdrlpqa"
    assert (
        pseudonyms.address("anna.schmidt", "example.org", keep_domain=True)
        == "p7.yz4ciz7wsrhizjpytsqftk6yoxj4botbqdekoh7f5pkdwetime5q@example.org"
    )
    assert pseudonyms.record_id("6923a0190011223344556677aa") == "6923a019f4fe34883be584d375"


@pytest.mark.parametrize("keep_domain", [True, False])
def test_no_letter_of_a_text_depends_on_where_it_stands(keep_domain: bool) -> None:
    """An address found in a text and the same in a field are one pseudonym: there is nothing but the text and its domain in it."""
    pseudonyms = Pseudonyms({1: ONE})
    address = pseudonyms.address("anna", "example.org", keep_domain=keep_domain)
    assert pseudonyms.reveal(f"xx{address},{address}") == ("xxanna@example.org,anna@example.org", 0)
