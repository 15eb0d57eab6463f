"""XMP sidecars: what others have written stays to the byte, and our keywords come and go."""

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify.results.sidecars.formats import xmp
from dinoclassify.results.sidecars.formats.base import one_line
from dinoclassify.results.sidecars.tag import TagOptions, sidecar_of
from tests.helpers.invoke import Invoke
from tests.helpers.sidecars import (
    BARE,
    DARKTABLE,
    DIGIKAM,
    EMPTY_LIST,
    EXIFTOOL,
    FLAT,
    LIGHTROOM,
    NAMES,
    RDF,
    SAMPLES,
    TREE,
    keywords,
    results,
    state,
    tagged,
    tagged_row,
    wanted,
)


def test_new_sidecar_has_flat_and_hierarchical_keywords(photo: Path, tag: Invoke) -> None:
    code, out, err = tag(results(photo.parent, tagged_row(photo, *NAMES)), "-k", "6")
    assert (code, out, err) == (0, "", "dinoclassify: 1 row: 1 sidecar written\n")
    content = (photo.parent / "x.jpg.xmp").read_bytes()
    flat = [*NAMES[:-1], "a/b"]  # a | would make a tree of it
    assert keywords(content, FLAT) == flat
    assert keywords(content, TREE) == [f"dino|{name}" for name in flat]


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_sidecar_of_another_program_is_restored_to_the_byte(sample: str) -> None:
    old = sample.encode()
    first = tagged(old, wanted("red, round", "R&B <live>"))
    flat = keywords(first, FLAT)
    assert sorted(flat) == sorted({*keywords(old, FLAT), "red, round", "R&B <live>"})
    assert flat[: len(keywords(old, FLAT))] == keywords(old, FLAT)
    assert keywords(first, TREE)[-2:] == ["dino|red, round", "dino|R&B <live>"]
    again = tagged(first, wanted("Füße", prefix="auto|dino"))  # another answer under another prefix
    assert keywords(again, TREE) == [*keywords(old, TREE), "auto|dino|Füße"]
    assert keywords(again, FLAT) == [*keywords(old, FLAT), "Füße"]
    assert xmp.update(again, wanted()) == old
    assert xmp.update(old, wanted()) is old


def test_new_elements_follow_the_style_of_the_file() -> None:
    new = tagged(LIGHTROOM.encode(), wanted("carp")).decode()
    assert "     <rdf:li>red, round</rdf:li>\n     <rdf:li>carp</rdf:li>\n    </rdf:Bag>\n" in new
    assert '  </rdf:Description>\n  <rdf:Description rdf:about="" xmlns:dc=' in new
    windows = tagged(SAMPLES["windows"].encode(), wanted("carp"))
    assert windows.count(b"\n") == windows.count(b"\r\n")
    assert b"\n" not in tagged(BARE.encode(), wanted("carp"))
    assert "<r:li>carp</r:li>" in tagged(BARE.encode(), wanted("carp")).decode()
    assert tagged(EXIFTOOL.encode(), wanted("carp")).decode().count('rdf:about="uuid:one&amp;two"') == 1


def test_existing_keyword_is_neither_doubled_nor_removed() -> None:
    first = tagged(LIGHTROOM.encode(), wanted("red, round"))
    assert keywords(first, FLAT).count("red, round") == 1
    other = tagged(first, wanted("carp"))
    assert keywords(other, FLAT) == ["Ann & Bob", "red, round", "carp"]


def without_record(content: bytes) -> bytes:
    """The file as saved by an editor that drops unknown namespaces and has one Description."""
    root = ET.fromstring(content)
    descriptions = root.findall(f".//{{{RDF}}}RDF/{{{RDF}}}Description")
    for description in descriptions:
        for child in list(description):
            if "dinoclassify" in child.tag:
                description.remove(child)
            elif description is not descriptions[0]:
                descriptions[0].append(child)
    rdf = root.find(f"{{{RDF}}}RDF")
    assert rdf is not None
    for description in descriptions[1:]:
        rdf.remove(description)
    return ET.tostring(root)


def test_keywords_are_kept_if_an_editor_dropped_our_record() -> None:
    dropped = without_record(tagged(DIGIKAM.encode(), wanted("tench", "carp", "pond")))
    assert keywords(dropped, FLAT) == ["pond", "tench", "carp"]
    assert xmp.update(dropped, wanted()) == dropped
    again = tagged(dropped, wanted("tench"))
    assert keywords(again, FLAT) == ["pond", "tench", "carp"]
    assert xmp.update(again, wanted()) is not None


def test_existing_keywords_below_our_prefix_are_kept() -> None:
    theirs = LIGHTROOM.replace("people|Ann &amp; Bob", "animals|horse").replace("Ann &amp; Bob", "horse").encode()
    first = tagged(theirs, wanted("carp", prefix="animals"))
    assert keywords(first, TREE) == ["animals|horse", "animals|carp"]
    assert keywords(first, FLAT) == ["horse", "red, round", "carp"]
    assert xmp.update(first, wanted(prefix="animals")) == theirs
    assert xmp.update(theirs, wanted(prefix="animals")) == theirs


def test_keyword_added_by_hand_below_our_prefix_is_kept() -> None:
    first = tagged(LIGHTROOM.encode(), wanted("carp"))
    by_hand = first.replace(b"<rdf:li>people|", b"<rdf:li>dino|mine</rdf:li><rdf:li>people|")
    left = xmp.update(by_hand, wanted())
    assert left is not None
    assert keywords(left, TREE) == ["dino|mine", "people|Ann & Bob"]


def test_keyword_added_by_hand_to_our_list_is_kept() -> None:
    first = tagged(None, wanted("carp"))
    added = first.replace(b"<rdf:li>carp</rdf:li>", b"<rdf:li>mine</rdf:li><rdf:li>carp</rdf:li>", 1)
    left = xmp.update(added, wanted())
    assert left is not None
    assert (keywords(left, FLAT), keywords(left, TREE)) == (["mine"], [])
    assert b"addedSubject" not in left


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not XML"),
        (b"\xff\xd8\xff\xe0 an image", "is not XML"),
        (b"<a/>", "is not XMP"),
        (LIGHTROOM.encode()[:-30], "is not XML"),
        (LIGHTROOM.encode("utf-16"), "is not XML in UTF-8"),
        (DARKTABLE.replace("UTF-8", "latin-1").encode("latin-1"), "is XML in latin-1"),
        (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + BARE.encode(), "has a DOCTYPE"),
        (EMPTY_LIST.replace("<rdf:Bag></rdf:Bag>", "word").encode(), "has a dc:subject that is no list"),
        (BARE.replace("/>", ' d:subject="w" xmlns:d="http://purl.org/dc/elements/1.1/"/>').encode(), "is no list"),
    ],
)
def test_invalid_xmp_is_left_alone(content: bytes, why: str, photo: Path, tag: Invoke) -> None:
    sidecar = photo.parent / "x.jpg.xmp"
    sidecar.write_bytes(content)
    rows = results(photo.parent, tagged_row(photo, "tench"))
    before = state(photo.parent)
    for options in ([], ["--remove"]):
        code, _, err = tag(rows, *options)
        assert (code, err.endswith("written, 1 image left alone (1 unreadable)\n")) == (3, True)
        assert why in err
    assert state(photo.parent) == before


WORDS = st.sampled_from(["tench", "carp", "people|Ann", "R&B", "Füße", "שלום", "x, y", " spaced ", "", "a/b"])


@st.composite
def sidecars(draw: st.DrawFn) -> bytes:
    """XMP in the styles of many programs."""
    end = draw(st.sampled_from(["\n", "\r\n", ""]))
    step = draw(st.sampled_from([" ", "  ", "\t"])) if end else ""
    rdf = draw(st.sampled_from(["rdf", "r"]))
    quote = draw(st.sampled_from("'\""))

    def items(texts: Iterable[str], depth: int) -> str:
        made = [text.replace("&", draw(st.sampled_from(["&amp;", "&#38;"]))) for text in texts]
        return "".join(f"{end}{step * depth}<{rdf}:li>{one}</{rdf}:li>" for one in made)

    def bag(name: str) -> str:
        kind = draw(st.sampled_from(["Bag", "Seq"]))
        texts = draw(st.lists(WORDS, max_size=3, unique=True))
        inner = f"<{rdf}:{kind}>{items(texts, 4)}{end}{step * 3}</{rdf}:{kind}>" if texts else f"<{rdf}:{kind}/>"
        return f"{end}{step * 2}<{name}>{end}{step * 3}{inner}{end}{step * 2}</{name}>"

    lists = [name for name in ("dc:subject", "lr:hierarchicalSubject", "my:keys") if draw(st.booleans())]
    spaces = (
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:my="urn:my/"'
    )
    descriptions = ""
    for name in [*lists, *draw(st.lists(st.just("my:note"), max_size=2))]:
        comment = draw(st.sampled_from(["", "<!-- a > b -->", "<?keep this?>"]))
        inner = bag(name) if name in lists else f"{end}{step * 2}<my:note><![CDATA[<&>]]></my:note>"
        attribute = draw(st.sampled_from(["", f" my:a={quote}1 &gt; > 0&#10;{quote}"]))
        start = f"{rdf}:Description {spaces} {rdf}:about={quote}{quote}{attribute}"
        descriptions += f"{end}{step}{comment}<{start}>{inner}{end}{step}</{rdf}:Description >"
    whole = f'<{rdf}:RDF xmlns:{rdf}="{RDF}">{descriptions}{end}</{rdf}:RDF>'
    if draw(st.booleans()):
        whole = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{end}{whole}{end}</x:xmpmeta>"
    before = draw(st.sampled_from(["", "<?xml version='1.0'?>", '<?xpacket begin="\ufeff" id="W5M"?>', "\ufeff"]))
    return f"{before}{whole}{draw(st.sampled_from(['', end, ' ' * 40 + end]))}".encode()


@given(
    old=sidecars(),
    first=st.lists(WORDS.filter(str.strip), unique=True, max_size=3),
    second=st.lists(WORDS.filter(str.strip), unique=True, max_size=3),
)
def test_any_sidecar_is_restored_after_tag_and_remove(old: bytes, first: list[str], second: list[str]) -> None:
    content: bytes | None = old
    for names, prefix in ((first, "dino"), (second, "auto")):
        request = wanted(*names, prefix=prefix)
        content = xmp.update(content, request)
        assert content is not None
        assert xmp.update(content, request) is content
        flat = [one_line(name).replace("|", "/") for name in names]
        assert keywords(content, FLAT)[: len(keywords(old, FLAT))] == keywords(old, FLAT)
        assert set(keywords(content, FLAT)) == {*keywords(old, FLAT), *flat}
        assert keywords(content, TREE) == [*keywords(old, TREE), *(f"{prefix}|{name}" for name in flat)]
    freed = xmp.update(content, wanted())
    assert freed is not None
    assert ET.canonicalize(freed, with_comments=True) == ET.canonicalize(old, with_comments=True)
    if b"/>" not in old:
        assert freed == old


def test_large_and_deeply_nested_xmp_is_read() -> None:
    big = LIGHTROOM.replace("+0.35", "1" * 5_000_000).encode()
    assert xmp.update(tagged(big, wanted("carp")), wanted()) == big
    deep = LIGHTROOM.replace("The pond", "<a>" * 50_000 + "</a>" * 50_000).encode()
    assert xmp.update(tagged(deep, wanted("carp")), wanted()) == deep


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("naming", ["full", "stem"])
def test_exiftool_validates_our_sidecars(naming: str, photo: Path, tag: Invoke) -> None:
    folder = photo.parent
    with_packet = {name: sample for name, sample in SAMPLES.items() if "<?xpacket" in sample}
    packed = f"<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>\n{LIGHTROOM}<?xpacket end='w'?>"
    images = {name: folder / f"{name}.jpg" for name in (*with_packet, "packed", "fresh")}
    for name, image in images.items():
        shutil.copy(photo, image)
        if name != "fresh":
            sidecar = sidecar_of(str(image), TagOptions(naming="full" if naming == "full" else "stem"))
            Path(sidecar).write_text({**with_packet, "packed": packed}[name], newline="")
    rows = results(folder, *(tagged_row(image, *NAMES) for image in images.values()))

    def look() -> dict[str, dict[str, object]]:
        command = ["exiftool", "-json", "-validate", "-warning", "-a", "-G1", "-Subject", "-HierarchicalSubject"]
        done = subprocess.run([*command, "-ext", "xmp", str(folder)], capture_output=True, check=True)
        found = {Path(one["SourceFile"]).name.split(".")[0]: one for one in json.loads(done.stdout)}
        assert {one["ExifTool:Validate"] for one in found.values()} == {"OK"}
        assert not any("Warning" in key for one in found.values() for key in one)
        return found

    before = look()
    assert tag(rows, "-k", "6", "--naming", naming)[0] == 0
    merged = look()
    flat = [*NAMES[:-1], "a/b"]
    assert merged["fresh"]["XMP-dc:Subject"] == flat
    assert merged["fresh"]["XMP-lr:HierarchicalSubject"] == [f"dino|{name}" for name in flat]
    assert merged["digikam"]["XMP-dc:Subject"] == ["pond", *flat]
    assert merged["packed"]["XMP-lr:HierarchicalSubject"] == ["people|Ann & Bob", *(f"dino|{name}" for name in flat)]
    assert tag(rows, "--remove", "--naming", naming)[0] == 0
    assert look() == before


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_remove_works_after_exiftool_rewrote_the_file(photo: Path, tag: Invoke) -> None:
    rows = results(photo.parent, tagged_row(photo, "tench", "carp"))
    sidecar = photo.parent / "x.jpg.xmp"
    for option, left in (("-subject+=mine", ["mine"]), ("-rating=5", [])):
        tag(rows, "-k", "2")
        subprocess.run(["exiftool", "-overwrite_original", option, str(sidecar)], check=True, capture_output=True)
        assert tag(rows, "-k", "2")[2].endswith("1 as it was\n")
        assert tag(rows, "--remove")[0] == 0
        assert (keywords(sidecar.read_bytes(), FLAT), keywords(sidecar.read_bytes(), TREE)) == (left, [])
        sidecar.unlink()
