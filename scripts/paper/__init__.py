"""The paper's experiments: runs, what is measured of them, and the table and figures they make."""
