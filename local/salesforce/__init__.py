"""A Salesforce org on loopback: REST and login over a company's records, with the vendor's faults on demand."""
