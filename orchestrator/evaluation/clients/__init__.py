"""The mesh as an evaluation sees it: searches, answers, stored texts and collections over gRPC."""
