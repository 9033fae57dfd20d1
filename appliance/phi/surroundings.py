"""Words around a name that say whether somebody is meant: see `names`."""

from typing import Final

from appliance.phi.everyday import words_of

KIN: Final = words_of(
    # Kin and friends; whoever is named so is named next.
    "wife husband spouse partner fiance fiancee son daughter child mother mom mum father dad parent parents brother",
    "sister sibling aunt uncle cousin niece nephew grandmother grandfather grandson granddaughter grandma grandpa",
    "stepson stepdaughter stepmother stepfather friend neighbour neighbor guardian carer caregiver roommate",
    "girlfriend",
    "boyfriend widow widower twin baby husband's wife's",
    # Trades, where a name follows.
    "nurse physician doctor surgeon attending resident fellow intern registrar consultant midwife therapist",
    "pharmacist",
    "dietitian radiologist pathologist cardiologist neurologist oncologist anaesthetist anesthesiologist",
    "psychiatrist",
    "paramedic technician chaplain counsellor counselor caseworker colleague gp pcp matron sister porter clerk",
    "registrar's signed author dictated reviewer operator surgeon's assistant",
    # Labels and openings of letters.
    "patient pt client resident name named dear hello hi sincerely regards cc attn witness contact proxy",
)
"""What stands before a name, with a space, a comma or a colon between."""

OPENINGS: Final = words_of(
    "dr prof mr mrs ms mx miss sir dame fr herr frau mme monsieur madame senor senora pan pani"
    " mevrouw meneer signor signora signorina fru mlle"
)

ENDS: Final = words_of(
    "hospital clinic centre center university college school street road avenue lane drive ward unit department",
    "pharmacy laboratory laboratories institute foundation company inc ltd gmbh church temple airport station bridge",
    "county city town district park",
    "rn md np pa lpn phd pharmd msw lcsw cna dpt frcp mbbs jr sr crna dnp do",
    "january february march april may june july august september october november december",
    "monday tuesday wednesday thursday friday saturday sunday",
    "was is has had will can may and or the",
)
"""What ends a run of capitalised words and belongs to no name."""

PLACE_ENDS: Final = words_of(
    "hospital clinic centre center university college school street road avenue lane drive ward unit department",
    "pharmacy laboratory laboratories institute foundation company inc ltd gmbh church temple airport station bridge",
    "county city town district park house health healthcare medical memorial general state island beach river lake",
    "catheter scale score sign test reflex classification procedure fracture bacillus virus tube forceps clamp",
    "retractor criteria index stain staining grade stage fever node nodes cell cells body bodies maneuver manoeuvre",
    "position operation incision hernia agar splint brace collar bath solution technique questionnaire inventory",
    "method formula equation syndrome disease duct gland canal ring loop muscle ligament curve law effect number",
    "lymphoma sarcoma tumour tumor ulcer palsy dementia paresis fundoplication pupil line pouch fracture",
    "negative positive",
    "joint cup stem hip knee valve pump stockings blanket warmer bed boot bags solution protocol fluid stoma",
)
"""What follows a discoverer's, a founder's or a saint's name that is no patient's."""

NEVER: Final = words_of(
    # Words of every sentence that are names on some list.
    "a an and are as at be but by did do does each for from had has have he her here hers him his how i if in is it",
    "its just like made make many me more most my new no not now of off on one only or our out over own said same",
    "see she so some such take than that the their them then there these they this those to today too two under",
    "until up us use very was we were what when where which while who why with without would yes yesterday you your",
    "all any both can could may might must shall should will after again also always ask because been before being",
    "below between during few first further get got last let long low high left right little much next never none",
    "normal old per please said since still tell thank thanks through tomorrow tonight unless use used well went",
    "won yet true false none less valid",
    # Days and months, and headings of records.
    "monday tuesday wednesday thursday friday saturday sunday january february march april june july august",
    "september october november december spring summer autumn winter",
    "admission allergies assessment blood chief clinical code complaint conclusion consent current date department",
    "diagnosis discharge dose exam examination family findings follow general history home hospital impression lab",
    "labs laboratory medical medication medications name notes number objective office operation order past patient",
    "dr prof mr mrs ms mx miss sir consultant neurologist hello hi thanks yours regards best wishes many kind",
    "drs coll stat",
    # Before what people do, and before their letters: how it was signed, whose shift it was, what was looked at.
    "electronically digitally initially eventually currently occasionally previously recently originally formerly",
    "usually generally frequently reportedly apparently subsequently finally verbally personally repeatedly regularly",
    "allegedly clearly charge bedside night float triage knee ankle wrist elbow spine skull abdomen pelvis femur tibia",
    # What programs say of a column or a variable behind its name.
    "string varchar nvarchar boolean integer bigint timestamp column constraint",
    "physical plan procedure record reference report result results review room sex social specimen status subject",
    "subjective summary surgery surgical symptoms test tests time title type unit visit vital vitals ward",
    # Peoples, tongues and places that lists of names have.
    "american african asian english french german spanish italian polish irish dutch arabic chinese japanese indian",
    "russian turkish vietnamese portuguese christian muslim jewish catholic hindu",
    "africa america asia australia austria belgium brazil britain canada china cuba denmark egypt england europe",
    "france germany ghana greece holland india iran iraq ireland israel italy japan jordan kenya mexico nigeria",
    "norway",
    "pakistan poland portugal russia scotland spain sweden switzerland syria turkey ukraine vietnam wales",
    "alabama alaska arizona arkansas california carolina colorado connecticut dakota delaware florida georgia hawaii",
    "idaho illinois indiana iowa kansas kentucky louisiana maine maryland massachusetts michigan minnesota",
    "mississippi",
    "missouri montana nebraska nevada hampshire jersey ohio oklahoma oregon pennsylvania rhode tennessee texas utah",
    "vermont virginia washington wisconsin wyoming",
    "paris london berlin rome madrid vienna dublin sydney boston chicago houston dallas denver seattle miami phoenix",
)
"""What begins no name, whatever a list says."""

THINGS: Final = words_of(
    # What scales, signs, instruments and operations are called after.
    "apgar allen babinski bair balfour barthel billroth bishop braden broca brodie bouchard braun cobb colles",
    "depuy doppler",
    "epworth fogarty foley fort fowler gleason glasgow gram gunn hartmann heberden heimlich hickman hohmann holter",
    "homan hoffmann jackson-pratt karnofsky katz kocher lachman lachmann langerhans levine likert luer mallampati",
    "mantoux mayo mcmurray mobitz morison morse murphy nissen norton papanicolaou penrose pratt ramsay rinne",
    "rorschach",
    "schatzki schirmer schmitt schober simpson snellen spurling swan-ganz tanner todd trendelenburg valsalva virchow",
    "waterlow westergren whipple willebrand wood yankauer reed-sternberg sternberg horner lewy ishihara hunt",
    # What lives in people, and what they take, where a list has it as a name.
    "candida listeria giardia salmonella yersinia allegra flovent senna sonata",
    # Makers and firms.
    "abbott amazon apple baxter bayer belmont boston-scientific costa dell depuy dyson ford gilead google honda",
    "lilly",
    "medtronic merck microsoft moderna mirth novartis olympus oracle pfizer philips roche sandoz siemens",
    "stryker teva",
    "toyota uber volvo walgreens walmart vitek zimmer",
)
"""What is called after somebody and is no patient when it stands alone."""

TRADES: Final = ("ologist", "ologie", "ology", "iatrist", "iatry", "ician", "therapist", "surgeon", "iatrics")
"""How the names of trades and departments end."""

PERSON_VERBS: Final = words_of(
    "called said says asked asks told tells agrees signed drove drives knows knew wants waits",
    "waited carries",
    "thinks reports reported denies denied lives lived visited phoned insists remembers manages",
    "cooks smokes",
    "drinks walks travels came went feels worries complained complains stayed arranged attended cried",
    "laughed hopes",
    "sends brought brings helped helps wrote writes texted emailed confirmed prefers refuses refused ",
    "consented",
    "interpreted translated wishes understood understands sleeps plays doubts speaks spoke rang sat",
    "felt ",
    "whose himself herself bed",
)
"""What only a person does."""

TOWARDS: Final = words_of(
    "by told tell tells asked ask asking paged page informed inform reassured thanked thank called call calling",
    "met see",
    "saw seen per thanks yours wishes regards love signed crew caller ordering tech taken pt handover dr cc attn",
    "texted emailed messaged phoned rang updated notified contacted advised reviewed examined assessed escorted",
    "accompanied helped assisted taught interviewed supervised alerted consulted visited",
)
"""What is done to, or by, a person who is named next."""

DEALT: Final = words_of(
    "discussed reviewed agreed spoke spoken met talked liaised rehearsed confirmed meeting meet up consulted",
    "together lives",
    "lived staying update message letter call note email feedback handover word belongs handed given passed",
    "lent according",
    "thanks speak talk speaking sat stayed went",
    "review discuss copy copied escalated reported scheduled booked appointment appt consult consultation session",
    "reply replied apologised complaint heard texted wrote voicemail married engaged divorced separated assisted",
)
"""What stands before `with`, `from`, `to` or `of` and a person."""

LETTERS_OF_TRADES: Final = frozenset(
    (
        *("RN", "MD", "DO", "NP", "PA", "PA-C", "LPN", "PhD", "PharmD", "MSW", "LCSW", "CNA", "DPT", "FRCP", "MBBS"),
        *("Jr", "Sr", "CRNA", "DNP"),
    )
)
"""What stands behind a name, as it is written."""
