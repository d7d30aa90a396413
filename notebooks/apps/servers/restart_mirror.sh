# On the mirror: somebody restarts the web server while a download is under way.
downloads=$(wc -l </tmp/downloads)
while [ "$(wc -l </tmp/downloads)" = "$downloads" ]; do
    usleep 20000
done
usleep 300000
killall httpd
