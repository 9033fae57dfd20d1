"""Elements of XML and HTML say of people what fields say, by themselves and by what they are in; others stay."""

import re
import time
from typing import Final

import pytest

from appliance.phi.detect import PatternDetector
from tests.support.masked import left_of

_MARKED: Final = re.compile("{{.*?}}")


@pytest.mark.parametrize(
    "marked",
    [
        "<Patient><Name>{{zork quist}}</Name><MRN>{{918}}</MRN><n>918</n></Patient>",
        "<patients>\n <patient id='918'>\n  <name>\n {{zork}}\n </name>\n  <room>918</room>\n </patient>\n</patients>",
        "<m><firstName>{{zork}}</firstName><address>{{5 Erewhon Parade, Dun}}</address><phone>{{5550134}}</phone></m>",
        '<field name="mrn">{{918}}</field><field name="last_name">{{quist}}</field><field name="n">918</field>',
        '<mrn value="{{918}}"/><n value="918"/>',
        '<mrn type="old">{{918}}</mrn>',
        '<x:mrn x:type="old"><x:value>{{A-9}}</x:value></x:mrn>',
        """<patientRole><id extension="{{918}}" root="2.16.840"/><addr use="HP">
             <streetAddressLine>{{5 Zork Road}}</streetAddressLine><city>{{Dun}}</city><state>VIC</state></addr>
             <telecom value="{{tel:5550134}}"/><patient><name><given>{{zork}}</given><family>{{quist}}</family></name>
             <birthTime value="{{19620314}}"/></patient>""",
        "<assignedPerson><name><family>{{quist}}</family></name></assignedPerson>",
        "<visit><mrn>{{918}}</mrn><name>{{zork quist}}</name></visit>",
        "<form><p>one<br>two</p><input name='mrn' value='{{918}}'><b>918</b></form>",
        "<table><tr><th>MRN</th><th>Surname</th><th>Hb</th></tr><tr><td>{{918}}</td><td>{{zork}}</td><td>13</td></tr></table>",
        """<TABLE><thead><tr><th>Hb</th><th scope="col">MRN</th><th><b>Surname</b></th></tr></thead>
             <tr></tr><tbody><tr><td>13</td><td>{{918}}</td><td></td></tr>
             <tr><td></td><td class="n">{{919}}</td><td c="d"><i><b>{{quist}}</b></i></td></tr></tbody></TABLE>""",
        """<table><tr><th>Surname</th><td>{{zork}}</td></tr><tr><th>Ward</th><td>3B</td></tr>
             <tr><th>MRN</th><td>{{918}}</td></tr></table>""",
        # A cell with nothing but an end of a line, or with a text around one, is a cell.
        """<table><tr><th>Note</th><th>MRN</th><th>Dose</th></tr><tr><td><br/></td><td>{{918}}</td><td>77</td></tr>
             <tr><td>well<br>now</td><td>{{919}}</td><td>78</td></tr></table>""",
        "<table><tr><td><table><tr><td>MRN</td><td>n</td></tr><tr><td>{{918}}</td></tr></table></td></tr></table>",
        "<Patient><Name>{{zork}}</Name><MRN>{{918}}",
        "<MRN>{{918}}</MRN></Patient> a <b <MRN>{{919}}</MRN>",
        "<m><mrn>{{918}}</m>",
        "<a>" * 100 + "<mrn>{{918}}</mrn>" + "</a>" * 100,
    ],
)
def test_what_an_element_says_of_people_is_found(marked: str) -> None:
    text = marked.replace("{{", "").replace("}}", "")

    assert left_of(text) == _MARKED.sub("~", marked)


@pytest.mark.parametrize(
    "text",
    [
        "<project><name>viewer</name><id>918</id><version>1.4</version></project>",
        '<xs:element name="mrn" type="xs:string" minOccurs="0"/>',
        '<observation><name>glucose</name><value value="918"/><id root="2.16" extension="x"/></observation>',
        '<compound><name>A</name><member kind="function"><type>x</type><name>zork</name></member></compound>',
        '<members><member name="P:Acme.Text.Length"><summary>x</summary></member><member name="M:A.B(C)"/></members>',
        "<table><tr><th>Drug</th><th>Name</th></tr><tr><td>918</td><td>zorkol</td></tr></table>",
        "<drug><name>zorkol</name><mrn/></drug>",
        "<patient><name/><mrn></mrn><note>918</note></patient>",
        "<info><version>1</version><contact><name>the squad</name></contact></info>",
        "Map<String, Patient> name = of(List<Patient>()); if (a <b && c> 918) {} </x>",
        "<patient><name>" + "word " * 100 + "</name></patient>",
    ],
)
def test_elements_without_anybody_stay(text: str) -> None:
    assert left_of(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "<a>",
            "</a>",
            "<a/>",
            "<a b='",
            "<a b=c ",
            "<mrn>918</mrn>",
            "<mrn>9",
            "<a " + "b" * 90,
            "<a b='c' ",
            "<br>",
        ),
        *("<patient><name>zork</name></patient>", "<a:", "</", "<a></b>", "<mrn><mrn>918</mrn>", "<a" + " b='1'" * 600),
        *("<table><tr><td>mrn</td>", "<table><tr><td>mrn</td><td>918</td></tr>", "<tr><td>mrn</td></tr>"),
    ],
)
def test_elements_of_any_form_take_time_in_proportion(piece: str) -> None:
    began = time.process_time()
    PatternDetector().find("<mrn>918</mrn>" + piece * (100_000 // len(piece)))

    assert time.process_time() - began < 2
