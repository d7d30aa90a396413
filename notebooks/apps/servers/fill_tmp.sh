# Somebody looked for a mistake, wrote a big log, and forgot it.
yes "2 o'clock, still looking for the mistake" | head -c 4000000 >/tmp/debug.log
