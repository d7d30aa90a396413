# A file server: it hands out the program of the shop and its catalogue.
mkdir -p /srv/cgi-bin

# The catalogue comes over a slow line: in ten pieces, one every tenth of a second.
cat >/srv/cgi-bin/catalogue <<'END'
#!/bin/sh
echo download >>/tmp/downloads
printf 'Content-Type: text/plain\r\nContent-Length: 300000\r\n\r\n'
for piece in 0 1 2 3 4 5 6 7 8 9; do
    yes "article $piece" | head -c 30000
    usleep 100000
done
END
chmod 755 /srv/cgi-bin/catalogue
touch /tmp/downloads

# The web server is started again whenever it ends.
while true; do
    httpd -f -p 80 -h /srv
done
