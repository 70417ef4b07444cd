// Sends one message with Nodemailer. The order comes as JSON on standard input (see tests/support/clients.py).
"use strict";
const fs = require("node:fs");
const nodemailer = require("nodemailer");

const order = JSON.parse(fs.readFileSync(0, "utf8"));
const auth = order.oauth2
  ? { type: "OAuth2", user: order.user, accessToken: order.password }
  : { user: order.user, pass: order.password, method: "PLAIN" };
const transport = nodemailer.createTransport({
  host: order.host,
  port: order.port,
  secure: order.secure,
  requireTLS: !order.secure,
  name: "client.example.org",
  localAddress: order.sourceAddress || undefined,
  auth: order.user ? auth : undefined,
  tls: { ca: fs.readFileSync(order.ca), servername: order.host === "127.0.0.1" ? "" : order.host },
  connectionTimeout: order.milliseconds,
});
transport
  .sendMail({ envelope: { from: order.from, to: order.to }, raw: fs.readFileSync(order.message), dsn: order.dsn || undefined })
  .then((info) => console.log(info.response))
  .catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
