"""What is read from other people's files: pictures, records and sentences, or an error."""
