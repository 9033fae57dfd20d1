"""Rows of SQL say of people what fields say, by their columns and their table; statements without anybody stay."""

import re
import time
from typing import Final

import pytest

from appliance.phi.detect import PatternDetector
from tests.support.masked import left_of

_MARKED: Final = re.compile("<<.*?>>")


@pytest.mark.parametrize(
    "marked",
    [
        "INSERT INTO patients (name, dob, mrn) VALUES ('<<Anna Field>>','<<14.3>>','<<918>>');",
        """insert ignore into `h`.`tbl_patients` (`n`, `name`, `phone`)
           values (918, '<<zork>>', '<<5550134>>'), -- one
             (918,\n '<<quist>>', NULL) ON CONFLICT DO NOTHING; INSERT INTO t (mrn) VALUES ('<<918>>')""",
        "INSERT INTO t(first_name,n,mrn,dob)VALUES(N'<<O''Zork>>',f(918,(2)),<<918>>,to_date('<<14.3>>','dd.m'))",
        "INSERT INTO t (name, mrn) VALUES ('<<zork>>', '<<918>>')",
        'x("INSERT INTO patients (name, mrn) VALUES (%s, %s)", ("<<zork>>", "<<918>>"))',
        """x('''INSERT INTO patients (name, mrn) VALUES (?, ?)
           ''', [('<<zork>>', <<918>>), ('<<quist>>', '<<918>>')])""",
        "x(`INSERT INTO patients (name, mrn) VALUES ($1, $2)`, ['<<zork>>', '<<918>>'])",
        """CREATE TABLE IF NOT EXISTS `patients` (
             `n` int(11), `name` varchar(80) DEFAULT 'a, b', `mrn` text);
           INSERT INTO `patients` VALUES (918,'<<zork>>','<<918>>'),(918,'<<quist>>','<<918>>');
           INSERT INTO drugs VALUES (1,'918');""",
        "COPY x.patients (n, name, mrn) FROM stdin;\n8\t<<zork>>\t<<918>>\n8\t<<al>>\t\\N\n\\.\n918\ta\t918",
        "INSERT INTO log (text, mrn) VALUES ('INSERT INTO t (n) VALUES (918)', '<<918>>')",
        "COPY patients (n, mrn) FROM stdin;\r\n8\t<<918>>\r\n\\.\r\n",
        "INSERT INTO patients (name, mrn)\nOUTPUT inserted.id\nVALUES\n ('<<zork>>', '<<918>>')",
        "INSERT INTO patients (name, mrn) SELECT '<<zork quist>>', <<918>> FROM t; SELECT '918'",
        "COPY t (n, mrn) FROM stdin;\n918\t<<A-9>>",
        "WHERE last_name LIKE '<<Zork>>%' AND p.mrn NOT IN ('<<918>>', <<919>>) AND n IN (918)",
        "where lower(surname) ilike '%<<''Zo>>_%' and mrn in (select",
        "WHERE last_name LIKE N'<<Zork>>%' OR surname like e'%<<Quist>>' AND mrn IN (N'<<918>>', E'<<919>>')",
        "where mrn between '<<918>>' and n and mrn like '%'",
        "INSERT INTO patients (name, mrn) VALUES ('<<zork>>', '<<918>>",
        "INSERT INTO patients (name, mrn) VALUES ('<<zo>>', '<<918>>', '', INSERT INTO staff (mrn) VALUES ('<<918>>')",
        "INSERT INTO patients (mrn) VALUES ('<<918>>' INSERT INTO patients (mrn) VALUES ('<<918>>'; x",
    ],
)
def test_what_a_column_says_counts_in_each_row(marked: str) -> None:
    text = marked.replace("<<", "").replace(">>", "")

    assert left_of(text) == _MARKED.sub("~", marked)


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE patients (name varchar(80), mrn char(10), phone varchar(20));",
        "INSERT INTO patients (name, mrn) VALUES (%s, %s), (:name, :mrn), ($1, $2), (@name, DEFAULT);",
        "INSERT INTO patients (name, mrn) SELECT name, mrn FROM staging;",
        "INSERT INTO drugs (name, dose) VALUES ('zorkol', 500)",
        "INSERT INTO drugs VALUES ('zorkol', 500)",
        "INSERT INTO drugs (mrn) VALUES ((((((((((918))))))))))",
        "where he was, in '918' and like 'zork' he said; name in ('zork')",
        "WHERE mrn IN (?, ?) AND last_name LIKE ? AND mrn IN (SELECT mrn FROM t)",
        "COPY t (a) FROM stdin;\nCOPY t (a,\tb) FROM stdin;\n918\t918",
        "CREATE TABLE a (b text DEFAULT 'CREATE TABLE c (d)'); INSERT INTO a VALUES ('918')",
        "the values (918) are stdin",
        "CREATE TABLE patients (name text",
    ],
)
def test_statements_that_name_nobody_stay(text: str) -> None:
    assert left_of(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        *("INSERT INTO t (a) VALUES (", "INSERT INTO t (a) VALUES ('", "INSERT INTO t VALUES (1),", "insert into t(a"),
        *("insert " * 8, "insert into t values(1);create table t (", "create table t (a b, ", "VALUES (1), (2), "),
        *(
            "COPY t (a) FROM stdin;\n",
            "COPY t (a,b) FROM stdin;\n1\t2\n",
            "where a in ('1',",
            "where a in (",
            "where a like '",
        ),
        *(
            "a in '",
            "where a in ('b') ",
            "insert into t (a) values ('b'), ('",
            "x in (((((",
            "values ''''",
            "where like 1",
        ),
    ],
)
def test_statements_of_any_form_take_time_in_proportion(piece: str) -> None:
    text = "create table t (mrn text); insert into t (mrn) values (1),(2);\n" + piece * (100_000 // len(piece))

    began = time.process_time()
    PatternDetector().find(text)

    assert time.process_time() - began < 2
