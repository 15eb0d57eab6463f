"""Sidecars of other programs, and what is in one."""

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

from dinoclassify.results.sidecars.formats import xmp
from dinoclassify.results.sidecars.formats.base import SidecarContent
from dinoclassify.types.prediction import Label, Prediction
from dinoclassify.writers.formats.columns import json_object

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


NAMES = ["red, round", "R&B <live> \"loud\" 'quoted'", "Füße", "שלום", "日本 🐟", "a|b"]


def labels(*names: str) -> tuple[Label, ...]:
    """Labels, best first."""
    return tuple(Label(name, rank, round(0.9 / (rank + 1), 4)) for rank, name in enumerate(names))


def wanted(*names: str, ranks: tuple[str, ...] = (), prefix: str = "dino") -> SidecarContent:
    return SidecarContent(labels(*names), labels(*names, *ranks), prefix)


def tagged_row(path: Path | str, *names: str, uncertain: bool = False) -> Prediction:
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
