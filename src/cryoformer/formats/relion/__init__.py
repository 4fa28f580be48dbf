"""STAR files of RELION and the programs that write its format."""
