"""Presidio's analyzer in an environment of its own: texts come as a line of JSON, findings and seconds go as one.

What can be had without a network: every recogniser of the package, with spaCy's tokenizer for English and no trained
model, since those are on no package index. No call leaves the process: its search for a list of domains is shut.
"""

import json
import logging
import os
import sys
import tempfile
import time


def main() -> None:
    """Answer each line until there is none."""
    logging.disable(logging.CRITICAL)
    os.environ["TLDEXTRACT_CACHE"] = tempfile.mkdtemp()
    import spacy
    import tldextract
    import tldextract.tldextract as domains
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    # The list that comes with the package; without this each process asks the network for a newer one.
    known = tldextract.TLDExtract(suffix_list_urls=(), fallback_to_snapshot=True)
    tldextract.extract = known
    domains.TLD_EXTRACTOR = known
    with tempfile.TemporaryDirectory() as folder:
        spacy.blank("en").to_disk(folder)
        told = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": folder}]}
        engine = AnalyzerEngine(
            nlp_engine=NlpEngineProvider(nlp_configuration=told).create_engine(), supported_languages=["en"]
        )
        engine.analyze("Warm: 1-2-3, a@example.org", "en")
        for line in sys.stdin:
            found, seconds = [], []
            for text in json.loads(line):
                began = time.perf_counter()
                each = engine.analyze(text, "en")
                seconds.append(time.perf_counter() - began)
                found.append([[one.start, one.end] for one in each])
            sys.stdout.write(json.dumps({"found": found, "seconds": seconds}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
