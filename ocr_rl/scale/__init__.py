"""What a step would cost on other cards than those at hand: measured parts, arithmetic, advice. No torch in it."""
