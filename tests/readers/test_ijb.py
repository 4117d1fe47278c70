"""Small lists in the true format; every way that they can be broken."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import DataError, InvalidValue
from probface.readers import ijb_pairs
from probface.readers.ijb import IjbFiles, find_ijb, ijb_items, read_ijb_faces, read_ijb_search
from probface.readers.ijb_pairs import read_ijb_pairs

FACES = "1.jpg 1 69544\n2.jpg 1 69544\n3.jpg 1 11\n4.jpg 7 5\n5.jpg 11065 11\n6.jpg 11066 12\n"
POINT = "46.060 62.026 87.785 60.323 68.851 77.656 52.162 99.875 86.450 98.648"
LANDMARKS = "".join(f"{n}.jpg {POINT} 0.{n}99\n" for n in (2, 1, 3, 4, 5, 6))  # not in the order of the other list
PAIRS = "1 11065 1\n1 11066 0\n7 11065 0\n"
HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT,FRAME_NUM\n"
LISTS = {
    "face_tid_mid.txt": FACES,
    "name_5pts_score.txt": LANDMARKS,
    "template_pair_label.txt": PAIRS,
    "1N_gallery_G1.csv": HEADER + "1,50,img/1.jpg,1,2,3,4,5,\n1,50,frames/2.png,2,2,3,4,5,6\n",
    "1N_gallery_G2.csv": HEADER + "7,60,img/9.jpg,3,2,3,4,5,\n",
    "1N_probe_mixed.csv": HEADER + "11066,60,img/8.jpg,5,2,3,4,5,\n11065,50,img/7.jpg,4,2,3,4,5,\n",
}


def _write(root: Path, prefix: str = "ijbc", **changed: str) -> IjbFiles:
    folder = root / prefix.replace("ijb", "IJB").upper()
    (folder / "meta").mkdir(parents=True)
    (folder / "loose_crop").mkdir()
    for number in range(1, 7):
        (folder / "loose_crop" / f"{number}.jpg").write_bytes(b"x")
    for name, text in LISTS.items():
        if prefix == "ijbb":
            name = name.replace("_G", "_S")
        (folder / "meta" / f"{prefix}_{name}").write_text(changed.get(name.split(".")[0].replace("1N_", ""), text))
    return find_ijb(root)


@pytest.mark.parametrize(("prefix", "galleries"), [("ijbc", ("G1", "G2")), ("ijbb", ("S1", "S2"))])
def test_everything(tmp_path: Path, prefix: str, galleries: tuple[str, str]) -> None:
    files = _write(tmp_path, prefix)
    assert files == find_ijb(tmp_path / prefix.upper())
    faces = read_ijb_faces(files)
    assert faces.names == tuple(f"{n}.jpg" for n in range(1, 7))
    assert faces.templates.tolist() == [1, 1, 1, 7, 11065, 11066]
    assert faces.media.tolist() == [69544, 69544, 11, 5, 11, 12]
    np.testing.assert_allclose(faces.detector_scores, [0.199, 0.299, 0.399, 0.499, 0.599, 0.699], rtol=1e-6)
    assert faces.landmarks.shape == (6, 5, 2)
    np.testing.assert_allclose(faces.landmarks[0, 1], [87.785, 60.323], rtol=1e-6)
    pairs = read_ijb_pairs(files.pairs, faces.templates)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([1, 1, 7], [11065, 11066, 11065])
    assert pairs.genuine.tolist() == [True, False, False]
    search = read_ijb_search(files, faces)
    assert tuple(gallery.name for gallery in search.galleries) == galleries
    assert [(g.templates.tolist(), g.subjects.tolist()) for g in search.galleries] == [([1], [50]), ([7], [60])]
    assert (search.probes.templates.tolist(), search.probes.subjects.tolist()) == ([11065, 11066], [50, 60])
    items = ijb_items(files, faces)
    assert (items[0].name, items[0].source) == ("1.jpg", files.images / "1.jpg")
    assert len(items) == 6


def test_an_image_may_serve_two_templates(tmp_path: Path) -> None:
    files = _write(tmp_path, face_tid_mid=FACES + "6.jpg 7 12\n")
    faces = read_ijb_faces(files)
    assert faces.detector_scores[6] == faces.detector_scores[5]
    assert len(ijb_items(files, faces)) == 6


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("face_tid_mid", "", "no line 'image template media'"),
        ("face_tid_mid", FACES.replace("2.jpg 1 69544", "2.jpg 1"), "line 2: 2 fields, expected 3"),
        ("face_tid_mid", FACES.replace("7 5", "7 5 9"), "line 4: 4 fields, expected 3"),
        ("face_tid_mid", FACES.replace("7 5", "seven 5"), "line 4: 'seven', expected a whole number"),
        ("face_tid_mid", FACES.replace("7 5", "-7 5"), "line 4: '-7', expected a whole number"),
        ("face_tid_mid", FACES.replace("7 5", "7 " + "9" * 19), "line 4: '9999999999999999999', expected a whole"),
        ("face_tid_mid", FACES + "3.jpg 1 12\n", "line 7: image '3.jpg' is in template 1 already, on line 3"),
        ("face_tid_mid", FACES + "8.jpg 1 12\n", "'8.jpg' of ijbc_face_tid_mid.txt has no landmarks (1 such"),
        ("face_tid_mid", FACES[:-4], "line 6: 2 fields, expected 3"),  # cut short within a line
        (
            "face_tid_mid",
            "1.jpg 1 1\n",
            "'2.jpg' of ijbc_name_5pts_score.txt is in no template (5 such",
        ),  # or after one
        ("name_5pts_score", LANDMARKS.replace(" 0.199", ""), "line 2: 11 fields, expected 12"),
        ("name_5pts_score", LANDMARKS.replace("0.199", "x"), "line 2: could not convert string to float: 'x'"),
        ("name_5pts_score", LANDMARKS.replace("0.199", "nan"), "line 2: ["),
        ("name_5pts_score", LANDMARKS.replace("0.199", "1e300"), "line 2: ["),
        ("name_5pts_score", LANDMARKS.replace("0.199", "-0.1"), "a score of 0 or more"),
        ("name_5pts_score", LANDMARKS + f"3.jpg {POINT} 0.5\n", "line 7: image '3.jpg' has landmarks already"),
        ("name_5pts_score", LANDMARKS[:-40], "line 6: "),
        ("name_5pts_score", LANDMARKS[: LANDMARKS.index("6.jpg")], "image '6.jpg' of ijbc_face_tid_mid.txt has no"),
    ],
)
def test_broken_lists_of_faces(tmp_path: Path, name: str, text: str, message: str) -> None:
    files = _write(tmp_path, **{name: text})
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_ijb_faces(files)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the list is empty"),
        ("\n \n", "line 1: the list is empty"),
        (PAIRS + "1 7\n", "line 4: '1 7', expected 'template template label'"),
        (PAIRS + "1 7 0 0\n", "line 4: '1 7 0 0'"),
        (PAIRS + "\n1 seven 0\n", "line 5: '1 seven 0'"),
        (PAIRS + "1 7.0 0\n", "line 4: '1 7.0 0'"),
        (PAIRS + "1 -7 0\n", "line 4: '1 -7 0'"),
        ("# first second label\n" + PAIRS, "line 1: '# first"),
        (PAIRS + "1 7 2\n", "line 4: '1 7 2'"),
        (PAIRS + "1 7 256\n", "line 4: '1 7 256'"),
        (PAIRS + "1 4294967297 0\n", "line 4: '1 4294967297 0'"),
        (PAIRS + "1 2147483648 0\n", "line 4: '1 2147483648 0'"),
        (PAIRS + "1 99999999999999999999 0\n", "line 4: "),
        (PAIRS + "1 7 0\0\n", "line 4: "),
        ("1 11065 1\n7\n11065 0\n", "line 2: '7'"),  # as many numbers as there should be
        (PAIRS[:-3], "line 3: '7 11065'"),  # cut short
        ("\n1 11065 1\n\n1 8 0\n", "line 4: template 8 has no image in the list of faces (1 such"),
        ("8 1 0\n1 11065 1\n", "line 1: template 8 has no image"),
        (PAIRS + "7 7 1\n", "line 4: template 7 is compared with itself"),
        (PAIRS + "\n1 11066 0\n", "line 5: templates 1 and 11066 are compared on line 2 already (1 such lines)"),
        (PAIRS + "11066 1 0\n", "line 4: templates 11066 and 1 are compared on line 2 already"),
        (PAIRS.replace("\n", "\r"), "line 1: a carriage return alone, expected lines that end with \\n or \\r\\n"),
        (PAIRS.replace("\n", "\r") + "1 11065 1\r", "line 1: a carriage return alone"),
        (PAIRS.replace("\n", "\r") + "1 8 0\r", "line 1: a carriage return alone"),
        (PAIRS.replace("\n", "\r") + "1 7 9\r", "line 1: a carriage return alone"),
        (PAIRS + "1 7 0\r", "line 4: a carriage return alone"),
        (PAIRS + "1 7\r0\n", "line 4: a carriage return alone"),
        (PAIRS + "1 7 0\r\r\n", "line 4: a carriage return alone"),
        (PAIRS.replace("\n", "\r\n") + "1 7 2\r\n", "line 4: '1 7 2'"),
        ("1 11065 1\n", "line 1: the list ends, and all 1 labels are 1"),
        ("1 11065 0\n1 7 0\n", "line 2: the list ends, and all 2 labels are 0"),
    ],
)
def test_broken_pairs(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ijbc_template_pair_label.txt"
    path.write_text(text, newline="")
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_ijb_pairs(path, np.array([1, 7, 11065, 11066]))
    assert str(caught.value).startswith(f"{path}, line ")
    assert ";" in str(caught.value)  # the mend


@pytest.mark.parametrize("chunk", range(1, 20))
def test_carriage_returns_wherever_the_file_is_parted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(ijb_pairs, "CHUNK", chunk)
    path = tmp_path / "pairs.txt"
    path.write_text(PAIRS, newline="\r\n")
    assert read_ijb_pairs(path, np.array([1, 7, 11065, 11066])).first.tolist() == [1, 1, 7]
    path.write_text("1 11065 1\n1 11066 0\r7 11065 0\n", newline="")
    with pytest.raises(DataError, match="line 2: a carriage return alone"):
        read_ijb_pairs(path, np.array([1, 7, 11065, 11066]))


def test_repeated_pairs_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(PAIRS + "11066 1 0\r\n\n", newline="")
    pairs = read_ijb_pairs(path, np.array([1, 7, 11065, 11066]), repeated="keep")
    assert pairs.first.tolist() == [1, 1, 7, 11066]
    with pytest.raises(InvalidValue, match="repeated 'drop': must be 'error' or 'keep'"):
        read_ijb_pairs(path, np.array([1]), repeated="drop")  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.booleans()), min_size=2, max_size=30)
)
def test_pairs_are_what_a_plain_parser_reads(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    text = "".join(f"{a} {b} {int(label)}\n" for a, b, label in rows)
    path = tmp_path_factory.mktemp("pairs") / "list.txt"
    path.write_text(text)
    known = np.array([value for a, b, _ in rows for value in (a, b)])
    keys = [frozenset((a, b)) for a, b, _ in rows]
    sound = len(set(keys)) == len(keys) and min(map(len, keys)) == 2 and len({label for *_, label in rows}) == 2
    if not sound:
        with pytest.raises(DataError):
            read_ijb_pairs(path, known)
        return
    pairs = read_ijb_pairs(path, known)
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.genuine.tolist(), strict=True)) == rows


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gallery_G1", "", "line 1: no column TEMPLATE_ID"),
        ("gallery_G1", "TEMPLATE_ID,FILENAME\n1,a\n", "line 1: no column SUBJECT_ID in the header"),
        ("gallery_G1", HEADER, "no template in it"),
        (
            "gallery_G1",
            HEADER.replace("FRAME_NUM", "SUBJECT_ID") + "1,50,a,1,2,3,4,5,51\n",
            "line 1: column SUBJECT_ID is in the header twice",
        ),
        ("gallery_G1", HEADER + "1,50,img/1.jpg\n", "line 2: 3 fields, expected 9"),
        ("gallery_G1", HEADER + "1,fifty,a,1,2,3,4,5,\n", "line 2: 'fifty', expected a whole number"),
        (
            "gallery_G1",
            HEADER + "1,50,a,1,2,3,4,5,\n1,51,b,1,2,3,4,5,\n",
            "line 3: template 1 is of subject 51, and of 50",
        ),
        ("gallery_G2", HEADER + "8,50,a,1,2,3,4,5,\n", "template 8 has no image in the list of faces (1 such"),
        ("gallery_G2", HEADER + "1,50,a,1,2,3,4,5,\n7,50,a,1,2,3,4,5,\n", "subject 50 has templates 1 and 7"),
        ("probe_mixed", HEADER + "1,50,a,1,2,3,4,5,\n", "template 1 is also among the probes of"),
        ("probe_mixed", HEADER + '11065,50,"a,1,2,3,4,5,\n', "not a CSV table in UTF-8"),
    ],
)
def test_broken_search_lists(tmp_path: Path, name: str, text: str, message: str) -> None:
    files = _write(tmp_path, **{name: text})
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_ijb_search(files, read_ijb_faces(files))
    assert str(tmp_path) in str(caught.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no meta/ijbb_face_tid_mid\.txt and no meta/ijbc"):
        find_ijb(tmp_path)
    files = _write(tmp_path)
    faces = read_ijb_faces(files)
    (files.images / "3.jpg").unlink()
    with pytest.raises(DataError, match=r"no 3\.jpg \(1 of 6 missing\)"):
        ijb_items(files, faces)
    files.images.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="needs its folder of crops"):
        ijb_items(files, faces)
    for path, read in (
        (files.pairs, lambda: read_ijb_pairs(files.pairs, faces.templates)),
        (files.probes, lambda: read_ijb_search(files, faces)),
        (files.landmarks, lambda: read_ijb_faces(files)),
    ):
        path.unlink()
        with pytest.raises(DataError, match=f"{path.name}: No such file"):
            read()
    files.templates.write_bytes(b"\xff\xfe 1 2\n")
    with pytest.raises(DataError, match="no text in UTF-8"):
        read_ijb_faces(files)
    other = tmp_path / "IJBB" / "meta"
    other.mkdir(parents=True)
    (other / "ijbb_face_tid_mid.txt").write_text(FACES)
    with pytest.raises(DataError, match="has ijbb and ijbc; give the folder of one"):
        find_ijb(tmp_path)
