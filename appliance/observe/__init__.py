"""What operators' monitoring reads, and where its alerts arrive: two small processes of their own."""
