"""An honest race: every contender under the same split, and the last test block left alone until the choice is written."""
