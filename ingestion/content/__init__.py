"""What a file says: text out of documents that anybody may have made, read in processes that they can't take along."""
