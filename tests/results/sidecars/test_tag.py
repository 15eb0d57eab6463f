"""`tag`: sidecars in three formats, what is in them that others have written, and what is taken out again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify.cli import run
from dinoclassify.results.sidecars.formats import json as json_file
from dinoclassify.results.sidecars.formats import txt as text
from dinoclassify.results.sidecars.formats import xmp
from dinoclassify.results.sidecars.formats.base import SidecarContent, SidecarError, one_line
from dinoclassify.results.sidecars.tag import TagOptions, sidecar_of
from dinoclassify.results.sidecars.tag import tag as write_sidecars
from dinoclassify.storage.atomic import temporary_name
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.writers.formats.columns import json_object
from tests.conftest import PHOTOS, Cli

Tag = Callable[..., tuple[int, str, str]]

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
FLAT = "{http://purl.org/dc/elements/1.1/}subject"
TREE = "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject"

LIGHTROOM = """\
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
   xmp:Rating="4"
   crs:Note='single "quoted" &#10;and two lines'
   crs:Exposure2012="+0.35">
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Ann &amp; Bob</rdf:li>
     <rdf:li>red, round</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <dc:title>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">The pond</rdf:li>
    </rdf:Alt>
   </dc:title>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>people|Ann &amp; Bob</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
   <xmpMM:Pantry>
    <rdf:Bag>
     <rdf:li>
      <rdf:Description>
       <dc:subject>
        <rdf:Bag>
         <rdf:li>of another image</rdf:li>
        </rdf:Bag>
       </dc:subject>
      </rdf:Description>
     </rdf:li>
    </rdf:Bag>
   </xmpMM:Pantry>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
DARKTABLE = """\
<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:darktable="http://darktable.sf.net/"
   xmpMM:DerivedFrom="x.jpg"
   darktable:xmp_version="5">
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="exposure"
      darktable:params="00000000"/>
    </rdf:Seq>
   </darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
DIGIKAM = (
    """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
   MicrosoftPhoto:Rating="50">
   <digiKam:TagsList>
    <rdf:Seq>
     <rdf:li>places/pond</rdf:li>
    </rdf:Seq>
   </digiKam:TagsList>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>pond</rdf:li>
    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
    + (" " * 80 + "\n") * 4
    + '<?xpacket end="w"?>'
)
EXIFTOOL = """\
<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.57'>
<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>

 <rdf:Description rdf:about='uuid:one&amp;two'
  xmlns:dc='http://purl.org/dc/elements/1.1/'>
  <dc:subject>
   <rdf:Bag>
    <rdf:li>pond</rdf:li>
   </rdf:Bag>
  </dc:subject>
 </rdf:Description>

 <rdf:Description rdf:about='uuid:one&amp;two'
  xmlns:xmp='http://ns.adobe.com/xap/1.0/'>
  <xmp:Rating>3</xmp:Rating>
 </rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end='w'?>"""
BARE = f'<r:RDF xmlns:r="{RDF}"><r:Description r:about=""/><!-- end --></r:RDF>'
DEFAULT = f'<RDF xmlns="{RDF}" xmlns:q="{RDF}">\n  <Description q:about="me"></Description>\n</RDF>\n'
EMPTY_LIST = f"""\
<rdf:RDF xmlns:rdf="{RDF}" xmlns:d="http://purl.org/dc/elements/1.1/">
  <rdf:Description rdf:about="">
    <d:subject><rdf:Bag></rdf:Bag></d:subject>
  </rdf:Description>
</rdf:RDF>
"""
SAMPLES = {
    "lightroom": LIGHTROOM,
    "darktable": DARKTABLE,
    "digikam": DIGIKAM,
    "exiftool": EXIFTOOL,
    "bare": BARE,
    "default namespace": DEFAULT,
    "windows": LIGHTROOM.replace("\n", "\r\n"),
    "no descriptions": f'<rdf:RDF xmlns:rdf="{RDF}">\n</rdf:RDF>',
    "an empty list": EMPTY_LIST,
    "a mark": "\ufeff" + DARKTABLE,
}
FORMATS = ("xmp", "txt", "json")
NAMES = ["red, round", "R&B <live> \"loud\" 'quoted'", "Füße", "שלום", "日本 🐟", "a|b"]


@pytest.fixture
def tag(capfd: pytest.CaptureFixture[str]) -> Tag:
    """Run the command: its exit code, stdout and stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = run(["tag", *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An image in a folder of its own."""
    return Path(shutil.copy(PHOTOS / "camera.jpg", tmp_path / "x.jpg"))


def labels(*names: str) -> tuple[Label, ...]:
    """Labels, best first."""
    return tuple(Label(name, rank, round(0.9 / (rank + 1), 4)) for rank, name in enumerate(names))


def wanted(*names: str, ranks: tuple[str, ...] = (), prefix: str = "dino") -> SidecarContent:
    return SidecarContent(labels(*names), labels(*names, *ranks), prefix)


def row_of(path: Path | str, *names: str, uncertain: bool = False) -> Prediction:
    """The row of an image as it is now."""
    now = os.stat(path)
    return Prediction(str(path), "uncertain" if uncertain else "ok", labels(*names), None, now.st_size, now.st_mtime_ns)


def results(folder: Path, *rows: Prediction) -> Path:
    """A file as `predict` writes it."""
    most = max((len(row.top) for row in rows), default=1)
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(json_object(row, most)) + "\n" for row in rows))
    return file


def keywords(content: bytes | str, name: str) -> list[str]:
    """The items of a list, of the image itself and nothing within."""
    root = ET.fromstring(content)
    rdf = root if root.tag == f"{{{RDF}}}RDF" else root.find(f"{{{RDF}}}RDF")
    assert rdf is not None
    found = rdf.findall(f"{{{RDF}}}Description/{name}")
    assert len(found) <= 1, "a second list of the same name is an error to most readers"
    return [item.text or "" for one in found for item in one.iterfind(f"*/{{{RDF}}}li")]


def tagged(old: bytes | None, request: SidecarContent) -> bytes:
    """What has labels, and is the same when it is tagged again."""
    new = xmp.update(old, request)
    assert new is not None
    assert xmp.update(new, request) is new
    return new


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Every file: its bytes, mtime and inode."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def test_a_fresh_sidecar_has_the_labels_flat_and_as_a_tree(photo: Path, tag: Tag) -> None:
    code, out, err = tag(results(photo.parent, row_of(photo, *NAMES)), "-k", "6")
    assert (code, out, err) == (0, "", "dinoclassify: 1 row: 1 sidecar written\n")
    content = (photo.parent / "x.jpg.xmp").read_bytes()
    flat = [*NAMES[:-1], "a/b"]  # a | would make a tree of it
    assert keywords(content, FLAT) == flat
    assert keywords(content, TREE) == [f"dino|{name}" for name in flat]


@pytest.mark.parametrize("made", FORMATS)
def test_a_second_run_writes_nothing_and_remove_leaves_nothing(made: str, photo: Path, tag: Tag) -> None:
    folder = photo.parent
    rows = results(folder, row_of(photo, *NAMES))
    before = state(folder)
    assert tag(rows, "-f", made, "-k", "3")[0] == 0
    first = state(folder)
    assert len(first) == len(before) + 1
    code, _, err = tag(rows, "-f", made, "-k", "3")
    assert (code, err) == (0, "dinoclassify: 1 row: 0 sidecars written, 1 as it was\n")
    assert state(folder) == first
    code, _, err = tag(rows, "-f", made, "--remove")
    assert (code, err) == (0, "dinoclassify: 1 row: 0 sidecars written, 1 deleted\n")
    assert state(folder) == before  # and the image has never been touched


def test_text_is_only_ever_added_to_unless_asked(photo: Path, tag: Tag) -> None:
    sidecar = photo.parent / f"{photo.name}.txt"
    sidecar.write_text("tabby\n")
    tag(results(photo.parent, row_of(photo, "tench", "tabby")), "-f", "txt")
    assert sidecar.read_text() == "tabby\ntench\n"
    tag(results(photo.parent, row_of(photo, "tench", "tabby", uncertain=True)), "-f", "txt")
    assert sidecar.read_text() == "tabby\ntench\n"


@pytest.mark.parametrize("made", ["xmp", "json"])
def test_an_uncertain_row_takes_earlier_labels_out(made: str, photo: Path, tag: Tag) -> None:
    tag(results(photo.parent, row_of(photo, "tench")), "-f", made)
    rows = results(photo.parent, row_of(photo, "tench", uncertain=True))
    assert tag(rows, "-f", made)[2] == "dinoclassify: 1 row: 0 sidecars written, 1 deleted\n"
    assert tag(rows, "-f", made)[2] == "dinoclassify: 1 row: 0 sidecars written, 1 with nothing to write\n"


def test_the_best_labels_that_are_good_enough(photo: Path, tag: Tag) -> None:
    rows = results(photo.parent, row_of(photo, "a", "b", "c"))  # 0.9, 0.45, 0.3
    for options, expected in (("", "a"), ("-k 2", "a b"), ("-k 3 --min-score 0.45", "a b"), ("-k 3", "a b c")):
        tag(rows, *options.split())
        assert keywords((photo.parent / "x.jpg.xmp").read_bytes(), FLAT) == expected.split()
    assert tag(rows, "--min-score", "0.95")[2].endswith("1 deleted\n")


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_a_sidecar_of_others_keeps_all_and_gets_back_every_byte(sample: str) -> None:
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


def test_new_elements_are_written_as_their_neighbours() -> None:
    new = tagged(LIGHTROOM.encode(), wanted("carp")).decode()
    assert "     <rdf:li>red, round</rdf:li>\n     <rdf:li>carp</rdf:li>\n    </rdf:Bag>\n" in new
    assert '  </rdf:Description>\n  <rdf:Description rdf:about="" xmlns:dc=' in new
    windows = tagged(SAMPLES["windows"].encode(), wanted("carp"))
    assert windows.count(b"\n") == windows.count(b"\r\n")
    assert b"\n" not in tagged(BARE.encode(), wanted("carp"))
    assert "<r:li>carp</r:li>" in tagged(BARE.encode(), wanted("carp")).decode()
    assert tagged(EXIFTOOL.encode(), wanted("carp")).decode().count('rdf:about="uuid:one&amp;two"') == 1


def test_a_keyword_that_was_there_is_neither_doubled_nor_taken_out() -> None:
    first = tagged(LIGHTROOM.encode(), wanted("red, round"))
    assert keywords(first, FLAT).count("red, round") == 1
    other = tagged(first, wanted("carp"))
    assert keywords(other, FLAT) == ["Ann & Bob", "red, round", "carp"]


def without_record(content: bytes) -> bytes:
    """The file as an editor leaves it that knows no namespace but its own, and has all in one Description."""
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


def test_where_an_editor_has_dropped_our_lists_nothing_is_ours() -> None:
    dropped = without_record(tagged(DIGIKAM.encode(), wanted("tench", "carp", "pond")))
    assert keywords(dropped, FLAT) == ["pond", "tench", "carp"]
    assert xmp.update(dropped, wanted()) == dropped
    again = tagged(dropped, wanted("tench"))
    assert keywords(again, FLAT) == ["pond", "tench", "carp"]
    assert xmp.update(again, wanted()) is not None


def test_keywords_below_our_prefix_that_were_there_before_us_are_anothers() -> None:
    theirs = LIGHTROOM.replace("people|Ann &amp; Bob", "animals|horse").replace("Ann &amp; Bob", "horse").encode()
    first = tagged(theirs, wanted("carp", prefix="animals"))
    assert keywords(first, TREE) == ["animals|horse", "animals|carp"]
    assert keywords(first, FLAT) == ["horse", "red, round", "carp"]
    assert xmp.update(first, wanted(prefix="animals")) == theirs
    assert xmp.update(theirs, wanted(prefix="animals")) == theirs


def test_a_keyword_below_our_prefix_is_anothers_if_our_lists_say_so() -> None:
    first = tagged(LIGHTROOM.encode(), wanted("carp"))
    by_hand = first.replace(b"<rdf:li>people|", b"<rdf:li>dino|mine</rdf:li><rdf:li>people|")
    left = xmp.update(by_hand, wanted())
    assert left is not None
    assert keywords(left, TREE) == ["dino|mine", "people|Ann & Bob"]


def test_a_keyword_that_somebody_puts_into_our_lists_stays() -> None:
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
def test_what_is_not_xmp_is_left_alone(content: bytes, why: str, photo: Path, tag: Tag) -> None:
    sidecar = photo.parent / "x.jpg.xmp"
    sidecar.write_bytes(content)
    rows = results(photo.parent, row_of(photo, "tench"))
    before = state(photo.parent)
    for options in ([], ["--remove"]):
        code, _, err = tag(rows, *options)
        assert (code, err.endswith("written, 1 image left alone (1 unreadable)\n")) == (3, True)
        assert why in err
    assert state(photo.parent) == before


WORDS = st.sampled_from(["tench", "carp", "people|Ann", "R&B", "Füße", "שלום", "x, y", " spaced ", "", "a/b"])


@st.composite
def sidecars(draw: st.DrawFn) -> bytes:
    """XMP of many hands."""
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
def test_whatever_is_tagged_and_freed_is_what_it_was(old: bytes, first: list[str], second: list[str]) -> None:
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


def test_large_and_deep_files_are_read() -> None:
    big = LIGHTROOM.replace("+0.35", "1" * 5_000_000).encode()
    assert xmp.update(tagged(big, wanted("carp")), wanted()) == big
    deep = LIGHTROOM.replace("The pond", "<a>" * 50_000 + "</a>" * 50_000).encode()
    assert xmp.update(tagged(deep, wanted("carp")), wanted()) == deep


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("naming", ["full", "stem"])
def test_exiftool_finds_nothing_to_warn_of(naming: str, photo: Path, tag: Tag) -> None:
    folder = photo.parent
    with_packet = {name: sample for name, sample in SAMPLES.items() if "<?xpacket" in sample}
    packed = f"<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>\n{LIGHTROOM}<?xpacket end='w'?>"
    images = {name: folder / f"{name}.jpg" for name in (*with_packet, "packed", "fresh")}
    for name, image in images.items():
        shutil.copy(photo, image)
        if name != "fresh":
            sidecar = sidecar_of(str(image), TagOptions(naming="full" if naming == "full" else "stem"))
            Path(sidecar).write_text({**with_packet, "packed": packed}[name], newline="")
    rows = results(folder, *(row_of(image, *NAMES) for image in images.values()))

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
def test_remove_finds_ours_where_exiftool_has_written_the_file_anew(photo: Path, tag: Tag) -> None:
    rows = results(photo.parent, row_of(photo, "tench", "carp"))
    sidecar = photo.parent / "x.jpg.xmp"
    for option, left in (("-subject+=mine", ["mine"]), ("-rating=5", [])):
        tag(rows, "-k", "2")
        subprocess.run(["exiftool", "-overwrite_original", option, str(sidecar)], check=True, capture_output=True)
        assert tag(rows, "-k", "2")[2].endswith("1 as it was\n")
        assert tag(rows, "--remove")[0] == 0
        assert (keywords(sidecar.read_bytes(), FLAT), keywords(sidecar.read_bytes(), TREE)) == (left, [])
        sidecar.unlink()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, "red, round\ncarp\n"),
        ("", "red, round\ncarp\n"),
        ("mine\n\nyours\n", "mine\n\nyours\nred, round\ncarp\n"),
        ("mine\r\nyours\r\n", "mine\r\nyours\r\nred, round\r\ncarp\r\n"),
        ("mine", "mine\nred, round\ncarp"),
        ("mine\r\nyours", "mine\r\nyours\r\nred, round\r\ncarp"),
        ("\ufeffmine\n", "\ufeffmine\nred, round\ncarp\n"),
        ("a \n carp\nb\n", "a \n carp\nb\nred, round\n"),
    ],
)
def test_text_keeps_the_lines_of_others(old: str | None, new: str) -> None:
    before = old.encode() if old is not None else None
    request = wanted("red, round", "carp")
    content = text.update(before, request)
    assert content == new.encode()
    assert text.update(content, request) is content
    assert text.update(content, wanted(ranks=("red, round", "carp"))) == (before or None)


def test_text_loses_what_is_a_label_no_more() -> None:
    request = wanted("carp", ranks=("tench", "two\nlines\x07\u2028"))
    assert text.update(b"mine\ntench\ntwo lines\n", request) == b"mine\ncarp\n"
    assert text.update(b"", wanted()) == b""
    for other in ("mine\n".encode("utf-16"), b"\xff\xd8\xff\xe0", b"a\0b"):
        with pytest.raises(SidecarError):
            text.update(other, request)


@pytest.mark.parametrize(
    "old",
    [
        '{\n  "title": "x.jpg",\n  "photoTakenTime": {"timestamp": "1500000000"},\n  "geo": {"latitude": 1.10}\n}\n',
        '{"a":1e5,"b":"\\u00e9\\/","b":2,"c":[1, 2]}',
        '{\r\n\t"a": 123456789012345678901234567890\r\n}',
        '\ufeff { "a" : null } \n',
    ],
)
def test_json_keeps_the_keys_of_others_to_the_byte(old: str) -> None:
    before = old.encode()
    content = json_file.update(before, wanted("tench", "שלום"))
    assert content is not None
    assert json.loads(content.decode("utf-8-sig")) == {
        **json.loads(old.removeprefix("\ufeff")),
        "dinoclassify": {
            "labels": [{"label": "tench", "score": 0.9, "index": 0}, {"label": "שלום", "score": 0.45, "index": 1}]
        },
    }
    assert json_file.update(content, wanted("tench", "שלום")) is content
    other = json_file.update(content, wanted("carp"))
    assert other is not None
    assert json_file.update(other, wanted()) == before
    assert json_file.update(before, wanted()) is before
    first = content.replace(b"{", b'{"dinoclassify": {},', 1)
    with pytest.raises(SidecarError, match="twice"):
        json_file.update(first, wanted())


def test_json_in_other_hands() -> None:
    request = wanted("tench")
    fresh = json_file.update(None, request)
    assert fresh is not None
    indented = json.dumps(json.loads(fresh), indent=7).encode()
    assert json_file.update(indented, request) is indented  # which says the same
    assert json_file.update(b"{}", request) == fresh.removesuffix(b"\n")
    moved = json.dumps({**json.loads(fresh), "mine": 1}).encode()
    assert json_file.update(moved, wanted()) == b'{"mine": 1}'
    lone = json_file.update(None, wanted("\udcff"))
    assert lone is not None
    assert json_file.update(lone, wanted("\udcff")) is lone
    for other in (b"", b"[]", b'"x"', b'{"a": 1', b"{}{}", b"\xff\xfe{\0}\0", b'{"a": ' + b"[" * 100_000):
        with pytest.raises(SidecarError):
            json_file.update(other, request)


@pytest.mark.parametrize(
    ("image", "naming", "into", "expected"),
    [
        ("a/x.jpg", "full", None, "a/x.jpg.xmp"),
        ("a/x.jpg", "stem", None, "a/x.xmp"),
        ("a.b/x", "stem", None, "a.b/x.xmp"),
        ("./a//x.jpg", "full", "out", "out/a/x.jpg.xmp"),
        ("/a/x.jpg", "stem", "out", "out/a/x.xmp"),
        ("../x.jpg", "full", "out", "out{above}/x.jpg.xmp"),
        ("a..b/x.jpg", "full", "out", "out/a..b/x.jpg.xmp"),
    ],
)
def test_where_a_sidecar_is(
    image: str, naming: str, into: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = TagOptions(naming="stem" if naming == "stem" else "full", into=into)
    assert sidecar_of(image, plan) == expected.format(above=tmp_path.parent)


def test_two_images_never_share_a_sidecar(photo: Path, tag: Tag, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photo.parent
    monkeypatch.chdir(folder)
    other = Path(shutil.copy(photo, folder / "x.png"))
    rows = results(folder, row_of("x.jpg", "tench"), row_of("./x.jpg", "late"), row_of("x.png", "carp"))
    code, _, err = tag(rows, "--naming", "stem")
    assert (code, err.count("\n")) == (3, 2)
    assert "x.png would have the same sidecar as" in err
    assert "1 sidecar written, 1 image left alone (1 clash)" in err
    assert keywords((folder / "x.xmp").read_bytes(), FLAT) == ["late"]
    assert tag(rows, "--naming", "stem", "--remove")[0] == 0
    (folder / str(folder)[1:]).mkdir(parents=True)
    below = Path(shutil.copy(other, folder / str(folder)[1:] / "x.png"))
    rows = results(folder, row_of(other, "tench"), row_of(below.relative_to(folder), "carp"))
    code, _, err = tag(rows, "--into", "out")
    assert (code, "1 clash" in err) == (3, True)
    assert [path.name for path in (folder / "out").rglob("*.xmp")] == ["x.png.xmp"]


def test_what_is_no_sidecar_is_never_written(photo: Path, tag: Tag) -> None:
    folder = photo.parent
    named = [folder / name for name in ("rows.jsonl.meta", "p.json", "linked.jpg", "dead.jpg", "pipe.jpg")]
    for image in named:
        shutil.copy(photo, image)
    (folder / "rows.jsonl.meta.json").write_text("{}")
    (folder / "linked.jpg.json").symlink_to("x.jpg")
    (folder / "dead.jpg.json").symlink_to("nowhere.json")
    os.mkfifo(folder / "pipe.jpg.json")
    rows = results(folder, *(row_of(image, "tench") for image in named))
    before = state(folder)
    for naming in ("full", "stem"):
        code, out, err = tag(rows, "-f", "json", "--naming", naming, "--dry-run")
        assert code == 3
        if naming == "full":
            assert (out.count("\n"), f"write {folder}/p.json.json\n" in out) == (1, True)
            tag(rows, "-f", "json")
            assert {name for name, now in state(folder).items() if before.get(name) != now} == {f"{folder}/p.json.json"}
        else:
            assert "p.json would be written over the image" in err


def test_a_link_to_an_image_has_its_sidecar_beside_it_and_a_linked_sidecar_stays_a_link(photo: Path, tag: Tag) -> None:
    folder = photo.parent
    (folder / "links").mkdir()
    link = folder / "links" / "y.jpg"
    link.symlink_to(photo)
    rows = results(folder, row_of(link, "tench"))
    assert tag(rows)[0] == 0
    sidecar = folder / "links" / "y.jpg.xmp"
    stored = sidecar.rename(folder / "stored.xmp")
    sidecar.symlink_to(stored)
    tag(results(folder, row_of(link, "carp")))
    assert sidecar.is_symlink()
    assert keywords(stored.read_bytes(), FLAT) == ["carp"]
    tag(rows, "--remove")
    assert not stored.exists()
    assert not sidecar.is_symlink()


def test_images_that_are_gone_or_changed_are_left_alone_but_freed(photo: Path, tag: Tag) -> None:
    folder = photo.parent
    images = [Path(shutil.copy(photo, folder / f"{number:02}.jpg")) for number in range(30)]
    failed = Prediction(str(photo), "failed", (), Failure("truncated", "it ends too early"))
    rows = results(folder, *(row_of(image, "tench") for image in images), failed)
    assert tag(rows)[2] == "dinoclassify: 31 rows: 30 sidecars written, 1 with nothing to write\n"
    before = state(folder)
    os.utime(images[0], ns=(0, 0))
    for image in images[1:25]:
        image.unlink()
    code, _, err = tag(rows, "-k", "1", "--prefix", "other")
    lines = err.splitlines()
    assert (code, len(lines)) == (3, 22)
    assert lines[0] == f"dinoclassify: {images[0]} has changed since it was labelled"
    assert lines[1] == f"dinoclassify: {images[1]} is gone"
    assert lines[20] == "dinoclassify: and so 5 more"
    assert lines[21].endswith("31 rows: 0 sidecars written, 5 changed, 1 with nothing to write, 25 images left alone "
                              "(24 gone, 1 changed)")  # fmt: skip
    assert state(folder)[f"{images[1]}.xmp"] == before[f"{images[1]}.xmp"]
    assert tag(rows, "-q")[2] == ""
    assert tag(rows, "--remove")[0] == 0
    assert not list(folder.glob("*.xmp"))


def test_a_dry_run_says_what_it_would_do_and_does_nothing(photo: Path, tag: Tag) -> None:
    folder = photo.parent
    names = ("new", "other", "theirs", "ours", "same")
    images = {name: Path(shutil.copy(photo, folder / f"{name}.jpg")) for name in names}
    (folder / "theirs.jpg.xmp").write_text(LIGHTROOM)
    earlier = {"other": "carp", "theirs": "carp", "ours": "carp", "same": "tench"}
    tag(results(folder, *(row_of(images[name], label) for name, label in earlier.items())))
    rows = [row_of(image, "tench", uncertain=name in ("theirs", "ours")) for name, image in images.items()]
    file = results(folder, *rows)
    before = state(folder)
    code, out, err = tag(file, "-n")
    actions = {"new": "write", "other": "change", "theirs": "remove", "ours": "delete"}
    assert out == "".join(f"{action} {folder}/{name}.jpg.xmp\n" for name, action in actions.items())
    assert (code, "5 rows: 1 sidecar would be written, 1 changed" in err) == (0, True)
    assert tag(file, "-n", "--into", folder / "out")[0] == 0
    assert state(folder) == before
    assert not (folder / "out").exists()


def test_names_on_the_terminal_do_not_steer_it(photo: Path, tag: Tag) -> None:
    odd = Path(shutil.copy(photo, photo.parent / "a\x1b[2Jb\nc.jpg"))
    code, out, _ = tag(results(photo.parent, row_of(odd, "tench")), "-n")
    assert (code, out) == (0, f"write {photo.parent}/a\\x1b[2Jb\\nc.jpg.xmp\n")


def test_the_mode_of_a_sidecar_stays_and_a_read_only_one_is_left_alone(
    photo: Path, tag: Tag, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = photo.parent / "x.jpg.xmp"
    sidecar.write_text(LIGHTROOM)
    sidecar.chmod(0o640)
    assert tag(results(photo.parent, row_of(photo, "tench")))[0] == 0
    assert sidecar.stat().st_mode & 0o7777 == 0o640
    before = state(photo.parent)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as it is for all but root
    code, _, err = tag(results(photo.parent, row_of(photo, "carp")))
    assert (code, f"cannot write {sidecar}: Permission denied" in err) == (3, True)
    assert state(photo.parent)[str(sidecar)] == before[str(sidecar)]


def test_a_folder_that_cannot_be_written_does_not_end_the_run_but_a_full_disk_does(
    photo: Path, tag: Tag, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photo.parent
    (folder / "out").mkdir()
    (folder / "out" / str(folder)[1:].split("/")[0]).touch()  # a file where a folder should be
    other = Path(shutil.copy(photo, folder / "y.jpg"))
    monkeypatch.chdir(folder)
    rows = results(folder, row_of(photo, "tench"), row_of(other.name, "carp"))
    code, _, err = tag(rows, "--into", "out")
    assert (code, "1 sidecar written, 1 image left alone (1 unwritable)" in err) == (3, True)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dinoclassify.storage.atomic.os.fsync", full)
    code, _, err = tag(rows)
    assert (code, err) == (6, f"dinoclassify: cannot write {photo}.xmp: No space left on device\n")
    assert not list(folder.glob("*.xmp*"))


@pytest.mark.parametrize("arguments", [(), ("--remove",)])
def test_a_killed_run_leaves_the_old_sidecar_and_the_next_takes_the_new_one_away(
    arguments: tuple[str, ...], photo: Path, tag: Tag
) -> None:
    sidecar = photo.parent / "x.jpg.xmp"
    sidecar.write_text(LIGHTROOM)
    rows = results(photo.parent, row_of(photo, "carp"))
    before = {*photo.parent.iterdir()}
    kill = "import os; from dinoclassify.storage import atomic; atomic.os.replace = lambda *_: os.kill(os.getpid(), 9)"
    reader = "from dinoclassify.results.reader import read_predictions"
    sidecars = "from dinoclassify.results.sidecars.tag import TagOptions, tag"
    command = f"{kill}; {reader}; {sidecars}; list(tag(read_predictions({str(rows)!r}), TagOptions()))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert sidecar.read_text() == LIGHTROOM
    (left,) = {*photo.parent.iterdir()} - before  # under a name that another run does not give
    others = [photo.parent / f".{digits}-{'0' * 16}.dinoclassify.tmp" for digits in ("01234567", left.name[1:9])]
    others[0].touch()  # of another file
    others[1].mkdir()
    assert tag(rows, "--dry-run")[0] == 0
    assert tag(rows)[0] == 0
    assert left.exists(), "it is of a minute ago at most"
    os.utime(left, (0, 0))
    assert tag(rows, "--dry-run")[0] == 0
    assert left.exists()
    assert tag(rows, *arguments)[0] == 0
    assert ("carp" in keywords(sidecar.read_bytes(), FLAT)) == (not arguments)
    assert {*photo.parent.iterdir()} - before == {*others}


def test_what_another_run_is_writing_stays(photo: Path, tag: Tag, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = results(photo.parent, row_of(photo, "carp"))
    temporary = Path(temporary_name(str(photo.parent / "x.jpg.xmp")))
    temporary.write_text("being written")
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", lambda _: pytest.fail("nobody waits for it"))
        assert tag(rows) == (0, "", "dinoclassify: 1 row: 1 sidecar written\n")
    assert temporary.exists()
    os.utime(temporary, (time.time() - 61,) * 2)
    assert tag(rows)[0] == 0
    assert not temporary.exists()


def test_a_folder_is_listed_once(photo: Path, tag: Tag, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [Path(shutil.copy(photo, photo.parent / f"{number}.jpg")) for number in range(20)]
    listed: list[str] = []
    real = os.scandir

    def listing(path: str) -> Iterator[os.DirEntry[str]]:
        listed.append(path)
        return real(path)

    monkeypatch.setattr("dinoclassify.results.sidecars.leftovers.os.scandir", listing)
    assert tag(results(photo.parent, *(row_of(one, "carp") for one in images)))[0] == 0
    assert len(listed) == 1


def test_removing_leaves_no_folders_that_are_empty_now(photo: Path, tag: Tag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photo.parent)
    for name in ("a/b/x.jpg", "a/y.jpg", "c/z.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, name)
    rows = results(photo.parent, *(row_of(name, "carp") for name in ("a/b/x.jpg", "a/y.jpg", "c/z.jpg")))
    Path("out/a/empty").mkdir(parents=True)
    Path("out/other").mkdir()
    assert tag(rows, "--into", "out")[0] == 0
    assert tag(rows, "--into", "out", "--remove")[0] == 0
    assert sorted(str(path) for path in Path("out").rglob("*")) == ["out/a", "out/a/empty", "out/other"]
    shutil.rmtree("out")
    assert tag(rows, "--into", "out")[0] == 0
    assert tag(rows, "--into", "out", "--remove")[0] == 0
    assert os.listdir("out") == [], "the folder that the user named stays"
    assert tag(rows)[0] == 0
    shutil.move("c/z.jpg", "z.jpg")
    assert tag(rows, "--remove")[0] == 0
    assert Path("c").is_dir(), "folders of images stay"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("raw", "jpeg", "label"),
    [("ok", "ok", "jpeg"), ("ok", "uncertain", "raw"), ("uncertain", "ok", "jpeg"), ("failed", "ok", "jpeg")],
)
def test_a_raw_and_its_jpeg_share_a_sidecar(
    raw: str, jpeg: str, label: str, order: tuple[int, int], photo: Path, tag: Tag
) -> None:
    folder = photo.parent
    other = Path(shutil.copy(photo, folder / "x.NEF"))
    failure = Failure("unsupported_format", "Nikon RAW (NEF): not supported yet")
    failed = replace(row_of(other), status="failed", failure=failure)
    of_raw = failed if raw == "failed" else row_of(other, "raw", uncertain=raw == "uncertain")
    both = [of_raw, row_of(photo, "jpeg", uncertain=jpeg == "uncertain")]
    rows = results(folder, *(both[place] for place in order))
    code, _, err = tag(rows, "--naming", "stem")
    shared = "" if raw == "failed" else ", 1 with the labels of another image of the shot"
    nothing = ", 1 with nothing to write" if raw == "failed" else ""
    assert (code, err) == (0, f"dinoclassify: 2 rows: 1 sidecar written{shared}{nothing}\n")
    assert keywords((folder / "x.xmp").read_bytes(), FLAT) == [label]
    before = state(folder)
    assert tag(rows, "--naming", "stem")[0] == 0
    assert state(folder) == before
    assert tag(rows, "--naming", "stem", "--remove")[0] == 0
    assert not (folder / "x.xmp").exists()


def test_of_many_of_a_shot_the_first_that_is_no_raw_counts(photo: Path, tag: Tag) -> None:
    folder = photo.parent
    raws = [Path(shutil.copy(photo, folder / name)) for name in ("x.cr2", "x.dng", "y.arw")]
    shutil.copy(photo, folder / "y.jpeg")  # which has no row
    tif = Path(shutil.copy(photo, folder / "x.tif"))
    rows = results(folder, *(row_of(one, one.name) for one in (*raws[:2], photo, tif, raws[2])))
    code, _, err = tag(rows, "--naming", "stem", "-f", "txt")
    told = "5 rows: 2 sidecars written, 3 with the labels of another image of the shot"
    assert (code, err) == (0, f"dinoclassify: {told}\n")
    assert ((folder / "x.txt").read_text(), (folder / "y.txt").read_text()) == ("x.jpg\n", "y.arw\n")


def test_of_several_rows_of_an_image_of_a_shot_the_last_counts(photo: Path) -> None:
    raw = shutil.copy(photo, photo.parent / "x.cr2")
    rows = [row_of(photo, "first"), row_of(raw, "raw"), row_of(photo, "last", uncertain=True)]
    assert [outcome.action for outcome in write_sidecars(rows, TagOptions(naming="stem"))] == [
        "write",
        "shared",
        "delete",
    ]
    rows = [row_of(raw, "first"), row_of(raw, "last")]
    assert [outcome.action for outcome in write_sidecars(rows, TagOptions(naming="stem"))] == ["shared", "write"]
    assert keywords((photo.parent / "x.xmp").read_bytes(), FLAT) == ["last"]


@pytest.mark.parametrize("length", [230, 251])
def test_long_names_have_sidecars(length: int, photo: Path, tag: Tag) -> None:
    folder = photo.parent
    long = photo.rename(folder / f"{'x' * (length - 4)}.jpg")
    rows = results(folder, row_of(long, "carp"))
    for made in ("xmp", "txt", "json") if length == 230 else ("xmp", "txt"):
        assert tag(rows, "-f", made)[0] == 0
        assert Path(f"{long}.{made}").exists()
        assert tag(rows, "-f", made, "--remove")[0] == 0
        assert not Path(f"{long}.{made}").exists()
    if length == 251:
        code, _, err = tag(rows, "-f", "json")
        assert (code, "File name too long: --naming stem has a shorter one" in err) == (3, True)
        assert tag(rows, "-f", "json", "--naming", "stem")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a file that predict wrote"),
        (["nothing.csv"], "nothing.csv is not there: "),
        (["ROWS", "--format", "txt", "--prefix", "x"], "leave out --prefix"),
        (["ROWS", "--remove", "--top-k", "2"], "leave out --top-k"),
        (["ROWS", "--remove", "--min-score", "0"], "leave out --min-score"),
        (["ROWS", "--prefix", ""], "--prefix '': choose a word"),
        (["ROWS", "--prefix", "a||b"], "--prefix 'a||b': choose a word"),
        (["ROWS", "--prefix", "a\nb"], "choose a word"),
        (["ROWS", "--into", ""], "that is no name; name a folder"),
        (["ROWS", "--into", "ROWS"], "that is a file; name a folder, new or not"),
        (["ROWS", "-k", "9"], "--top-k 9: the rows have 1; ask for no more, or predict with -k 9. See: "),
        (["x.jpg"], "is not what predict writes"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], message: str, photo: Path, tag: Tag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    results(photo.parent, row_of("x.jpg", "tench"))
    before = state(photo.parent)
    code, out, err = tag(*("rows.jsonl" if argument == "ROWS" else argument for argument in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert state(photo.parent) == before


@pytest.mark.parametrize("made", [xmp.update, text.update])
def test_of_imagenets_synonyms_the_first_is_the_keyword(
    made: Callable[[bytes | None, SidecarContent], bytes | None],
) -> None:
    tench = Label("tench, Tinca tinca", 0, 0.9)
    content = made(None, SidecarContent((tench,), (tench,), "dino"))
    assert content is not None
    assert b"tench" in content
    assert b"Tinca" not in content
    assert made(content, SidecarContent((), (tench,), "dino")) is None


def test_of_several_rows_on_stdin_the_last_counts(photo: Path, cli: Cli) -> None:
    rows = results(photo.parent, row_of(photo, "tench"), row_of(photo, "carp"))
    with open(rows, "rb") as stdin:
        assert cli("tag", "-", "-f", "json", stdin=stdin).returncode == 0
    assert [one["label"] for one in json.loads(Path(f"{photo}.json").read_text())["dinoclassify"]["labels"]] == ["carp"]
