"""A small task on which half a point of Dice can be seen: what single changes of splines and recipes are worth."""
