"""What an auditor is handed: records with their proofs, for programs and for people, and the record of that."""
