"""What a script does before its work: reads the command line, joins other processes, loads the open_clip model."""
