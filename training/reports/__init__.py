"""What a run shows of itself: lines, figures, pictures, trackers, and the card at its end.

The main process alone reports.
"""
