"""The audit: was a result earned, or does something leak?"""
