"""Texts of programs that name nobody reach the model as they are, however often they say patient, name and MRN."""

from typing import Final

import pytest

from appliance.phi.detect import PatternDetector, WithNames
from appliance.phi.names import NameRecogniser

_DETECTOR: Final = WithNames(PatternDetector(), NameRecogniser())
_PROGRAMS: Final = {
    "ddl": r"""
CREATE TABLE patients (
  id SERIAL PRIMARY KEY,
  name VARCHAR(80) NOT NULL,
  mrn CHAR(10) UNIQUE,
  dob DATE,
  phone VARCHAR(20) DEFAULT '',
  created_at TIMESTAMP DEFAULT now()
);
CREATE INDEX idx_patients_mrn ON patients (mrn, name);
ALTER TABLE patients ADD COLUMN last_name TEXT, ADD CONSTRAINT u UNIQUE (mrn);
SELECT p.name, p.mrn, count(*) AS visits FROM patients p
  JOIN visits v ON v.patient_id = p.id WHERE p.mrn = :mrn AND v.ward = 'icu' GROUP BY p.name, p.mrn;
INSERT INTO patients (name, mrn, dob) VALUES (%s, %s, %s);
INSERT INTO patients (name, mrn, dob) VALUES (?, ?, ?);
INSERT INTO patients (name, mrn) SELECT name, mrn FROM staging;
INSERT INTO patients (name, mrn) VALUES (:name, :mrn), ($1, $2), (@name, @mrn);
INSERT INTO drugs (code, name, dose) VALUES ('A10BA02', 'metformin', 500), ('N02BE01', 'paracetamol', 1000);
INSERT INTO wards (id, name) VALUES (1, 'icu'), (2, 'maternity');
UPDATE patients SET name = $1, mrn = $2 WHERE id = $3;
""",
    "py": r"""
from dataclasses import dataclass, field

@dataclass
class Patient:
    name: str = ""
    mrn: str = ""
    dob: date | None = None
    phone: str = field(default="")

def load(row: dict[str, str]) -> Patient:
    return Patient(name=row["name"], mrn=row["mrn"], dob=row.get("dob"), phone=row.phone)

def make(name, mrn=None, first_name=None, last_name=""):
    patient = Patient(name=name, mrn=mrn or "", dob=None)
    patient.name = f"{first_name} {last_name}".strip()
    patient.mrn = self.mrn = str(mrn)
    if patient.mrn == "" or patient.last_name == "unknown":
        raise ValueError("no mrn")
    return patient

container = Container(name="nginx", image="nginx:1.25", ports=[80])
parser.add_argument("--mrn", type=str, help="medical record number", required=True)
parser.add_argument("--patient-name", default=None, metavar="NAME")
log.info("loaded patient mrn=%s name=%s", mrn, name)
df = df.rename(columns={"name": "patient_name", "mrn": "patient_mrn"})
url = f"/patients?mrn={mrn}&last_name={quote(name)}"
class PatientForm(forms.Form):
    name = forms.CharField(max_length=100, label="Name")
    mrn = forms.CharField(max_length=10, validators=[RegexValidator(r"^\d{6,10}$")])
name = models.CharField(max_length=200)
address = models.ForeignKey(Address, on_delete=models.CASCADE)
""",
    "k8s": r"""
apiVersion: apps/v1
kind: Deployment
metadata:
  name: patient-api
  labels:
    app: patient-api
spec:
  replicas: 3
  template:
    spec:
      containers:
        - name: patient-api
          image: registry.local/patient-api:1.4.2
          env:
            - name: DB_HOST
              value: postgres
            - name: PATIENT_TABLE
              value: patients
          ports:
            - containerPort: 8080
---
apiVersion: v1
kind: Service
metadata:
  name: nginx
""",
    "pyproject": r"""
[project]
name = "patient-viewer"
version = "1.4.0"
description = "Shows patients"
requires-python = ">=3.11"
dependencies = ["flask>=3", "fhir.resources==7.1"]

[project.scripts]
patient-viewer = "patient_viewer.cli:main"

[tool.ruff]
line-length = 120
""",
    "nginx": r"""
server {
  listen 8080;
  server_name = patients.local;
  location /patients { proxy_pass http://backend; }
}
name = "nginx"
address = 0.0.0.0
""",
    "openapi": r"""
openapi: 3.0.0
info:
  title: Orders
  version: 1.0.0
  contact:
    name: Integration Squad
    url: example.com/support
  license:
    name: Apache 2.0
    url: apache.org
paths:
  /patients/{mrn}:
    get:
      summary: one patient
      parameters:
        - name: mrn
          in: path
          required: true
          schema:
            type: string
            pattern: '^[0-9]{6,10}$'
        - name: last_name
          in: query
          schema: {type: string}
components:
  schemas:
    Patient:
      type: object
      required: [name, mrn]
      properties:
        name: {type: string}
        mrn: {type: string, example: null}
        dob: {type: string, format: date}
""",
    "xml": r"""
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.acme</groupId>
  <artifactId>patient-api</artifactId>
  <name>patient-api</name>
  <dependencies>
    <dependency><groupId>org.acme</groupId><artifactId>hapi</artifactId></dependency>
  </dependencies>
</project>
<xs:element name="patient"><xs:complexType><xs:sequence>
  <xs:element name="name" type="xs:string"/>
  <xs:element name="mrn" type="xs:string" minOccurs="0"/>
</xs:sequence></xs:complexType></xs:element>
<bean id="patientService" class="org.acme.PatientService"><property name="address" value="${db.url}"/></bean>
""",
    "html": r"""
<form action="/patients" method="post">
<label for="name">Name</label><input type="text" name="name" id="name" placeholder="Name">
<label for="mrn">MRN</label><input type="text" name="mrn" value="{{ patient.mrn }}" maxlength="10">
<input type="tel" name="phone" pattern="[0-9]{10}">
<button class="btn btn-primary" type="submit">Save</button>
</form>
<Patient name={name} mrn={mrn} />
<PatientCard patient={patient} name="header" />
""",
    "java": r"""
public record Patient(String name, String mrn, LocalDate dob) {}
Patient p = new Patient(name, mrn, dob);
@Column(name = "mrn", length = 10) private String mrn;
@Entity @Table(name = "patients") public class PatientEntity { private String name = ""; }
String sql = "SELECT * FROM patients WHERE mrn = ? AND last_name = ?";
log.info("patient mrn={} name={}", mrn, name);
return "Patient{name='" + name + "', mrn='" + mrn + "'}";
""",
    "tf": r"""
resource "aws_db_instance" "patients" {
  identifier = "patients-db"
  name       = "patients"
  engine     = "postgres"
  username   = var.username
  address    = aws_eip.main.address
}
""",
    "logs": r"""
level=info ts=12:01 msg="server started" address=:8080 name=patient-api version=1.2.3
level=warn msg="slow query" table=patients duration=120ms rows=500
GET /api/patients?page=2&size=50&sort=last_name HTTP/1.1 200 12ms
GET /api/orders?name=&mrn=&status=open 200
""",
    "fix": r"""
INSERT INTO users (id, username, role) VALUES (1, 'admin', 'root');
INSERT INTO settings (name, value) VALUES ('timeout', '30'), ('retries', '5');
INSERT INTO labs (name, code, unit) VALUES ('glucose', '2345-7', 'mg/dl');
""",
    "env": r"""
PATIENT_API_URL=backend
PATIENT_NAME_FIELD=name
DB_NAME=patients
NAME=worker
MRN_LENGTH=8
PHONE_PATTERN='^[0-9]+$'
""",
}


@pytest.mark.parametrize("name", _PROGRAMS)
def test_a_program_that_names_nobody_stays_as_it_is(name: str) -> None:
    text = _PROGRAMS[name]

    assert [text[one.start : one.end] for one in _DETECTOR.find(text)] == []
