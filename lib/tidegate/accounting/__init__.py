"""What calls cost.

Nothing here sends anything: prices come from the table that the package `genai-prices` carries.
"""
